//! Sealing opens for the one place it was made for, and names what is wrong otherwise.

use proptest::prelude::*;
use storekeeper_model::{AppName, KeyKind, Slot, UserName};

use super::*;

fn sealer() -> Sealer {
    Sealer::load_or_create(&MasterKey::generate(), Vec::new(), Timestamp::EPOCH).unwrap().0
}

fn identity(user: &str) -> Identity {
    Identity {
        app: AppName::new("mygame").unwrap(),
        user: UserName::from_bytes(user.as_bytes()).unwrap(),
        slot: Slot::default(),
        kind: KeyKind::Purchase,
    }
}

fn text(jwt: &str) -> Secret<String> {
    Secret::new(String::from(jwt))
}

proptest! {
    #[test]
    fn any_text_comes_back_and_any_change_is_refused(jwt in ".{0,400}", user in ".{1,60}", version: u32, at: prop::sample::Index, bit in 0..8u8) {
        let (sealer, identity, jwt) = (sealer(), identity(&user), text(&jwt));
        let id = identity.key_id();
        let mut sealed = sealer.seal(&identity, id, Role::Held, version, &jwt);
        let opened = sealer.unseal(&identity, id, Role::Held, version, &sealed).unwrap();
        prop_assert_eq!(opened.expose(), jwt.expose());
        let at = at.index(sealed.bytes.len());
        sealed.bytes[at] ^= 1u8 << bit;
        prop_assert_eq!(sealer.unseal(&identity, id, Role::Held, version, &sealed), Err(UnsealError::Mismatch));
    }
}

#[test]
fn it_opens_in_its_own_place_only() {
    let (sealer, mine, other, jwt) = (sealer(), identity("a"), identity("b"), text("a.b.c"));
    let sealed = sealer.seal(&mine, mine.key_id(), Role::Held, 1, &jwt);
    let open = |identity: &Identity, role, version, sealed: &Sealed| {
        sealer.unseal(identity, mine.key_id(), role, version, sealed).map(|text| text.expose().clone())
    };
    assert_eq!(open(&mine, Role::Held, 1, &sealed), Ok(String::from("a.b.c")));
    assert_eq!(open(&other, Role::Held, 1, &sealed), Err(UnsealError::Mismatch));
    assert_eq!(open(&mine, Role::Newcomer, 1, &sealed), Err(UnsealError::Mismatch));
    assert_eq!(open(&mine, Role::Held, 2, &sealed), Err(UnsealError::Mismatch));
    let otherwise_packed = Sealed { format: sealed.format ^ 1, ..sealed.clone() };
    assert_eq!(open(&mine, Role::Held, 1, &otherwise_packed), Err(UnsealError::Mismatch));
    let otherwise_rooted = Sealed { root_generation: 2, ..sealed.clone() };
    assert_eq!(open(&mine, Role::Held, 1, &otherwise_rooted), Err(UnsealError::UnknownRoot { generation: 2 }));
    let cut = Sealed { bytes: sealed.bytes[..11].to_vec(), ..sealed };
    assert_eq!(open(&mine, Role::Held, 1, &cut), Err(UnsealError::Mismatch));
}

#[test]
fn neighbouring_parts_do_not_run_into_each_other() {
    let (mut one, mut two) = (identity("ab"), identity("a"));
    one.slot = Slot::new("c").unwrap();
    two.slot = Slot::new("bc").unwrap();
    let sealer = sealer();
    let sealed = sealer.seal(&one, one.key_id(), Role::Held, 1, &text("a.b.c"));
    assert_eq!(sealer.unseal(&two, one.key_id(), Role::Held, 1, &sealed), Err(UnsealError::Mismatch));
}

#[test]
fn a_second_start_opens_what_the_first_sealed() {
    let (master, identity) = (MasterKey::generate(), identity("a"));
    let (first, root) = Sealer::load_or_create(&master, Vec::new(), Timestamp::from_seconds(9)).unwrap();
    let root = root.expect("a keyring without roots gets one");
    assert_eq!((root.generation, root.created_at), (1, Timestamp::from_seconds(9)));
    let sealed = first.seal(&identity, identity.key_id(), Role::Newcomer, 7, &text("a.b.c"));

    let master = MasterKey::from_text(&format!(" {}\n", master.to_text().expose())).unwrap();
    let (second, none) = Sealer::load_or_create(&master, vec![root], Timestamp::EPOCH).unwrap();
    assert_eq!(none, None);
    assert_eq!(second.unseal(&identity, identity.key_id(), Role::Newcomer, 7, &sealed).unwrap().expose(), "a.b.c");
}

#[test]
fn the_newest_root_seals_and_all_unseal() {
    let (master, identity) = (MasterKey::generate(), identity("a"));
    let (first, root) = Sealer::load_or_create(&master, Vec::new(), Timestamp::EPOCH).unwrap();
    let sealed = first.seal(&identity, identity.key_id(), Role::Held, 1, &text("a.b.c"));
    let second =
        WrappedRoot { generation: 2, wrapped: Wrapper::new(&master).wrap(2, &[9; 32]), created_at: Timestamp::EPOCH };
    let (both, _) = Sealer::load_or_create(&master, vec![second, root.unwrap()], Timestamp::EPOCH).unwrap();
    assert_eq!(both.unseal(&identity, identity.key_id(), Role::Held, 1, &sealed).unwrap().expose(), "a.b.c");
    assert_eq!(both.seal(&identity, identity.key_id(), Role::Held, 1, &text("a.b.c")).root_generation, 2);
}

#[test]
fn a_wrong_master_key_is_one_line() {
    let (_, root) = Sealer::load_or_create(&MasterKey::generate(), Vec::new(), Timestamp::EPOCH).unwrap();
    let error =
        Sealer::load_or_create(&MasterKey::generate(), root.into_iter().collect(), Timestamp::EPOCH).unwrap_err();
    assert_eq!(error, LoadRootsError::WrongMasterKey);
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn a_damaged_root_is_named() {
    let master = MasterKey::generate();
    let (_, root) = Sealer::load_or_create(&master, Vec::new(), Timestamp::EPOCH).unwrap();
    let root = root.unwrap();
    let load = |change: &dyn Fn(&mut WrappedRoot)| {
        let mut root = root.clone();
        change(&mut root);
        Sealer::load_or_create(&master, vec![root], Timestamp::EPOCH).map(|_| ()).unwrap_err()
    };
    let damaged = LoadRootsError::Damaged { generation: 1 };
    assert_eq!(load(&|root| *root.wrapped.last_mut().unwrap() ^= 1), damaged);
    assert_eq!(load(&|root| root.wrapped.truncate(20)), damaged);
    assert_eq!(load(&|root| root.wrapped.clear()), damaged);
    assert_eq!(load(&|root| root.wrapped[0] = 2), LoadRootsError::TooNew { generation: 1 });
    assert_eq!(load(&|root| root.generation = 2), LoadRootsError::Damaged { generation: 2 });
}

#[test]
fn a_master_key_is_32_bytes_of_base64() {
    let from = |text: &str| MasterKey::from_text(text).map(|_| ()).unwrap_err();
    assert_eq!(from("not base64!"), MasterKeyError::NotBase64);
    assert_eq!(from(""), MasterKeyError::Length { found: 0 });
    assert_eq!(from("AAAA"), MasterKeyError::Length { found: 3 });
    assert_eq!(format!("{:?}", MasterKey::generate()), "MasterKey([redacted])");
}
