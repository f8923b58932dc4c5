//! Apps, roots, and the end.

use storekeeper_model::{AppName, ClientId};

use crate::conformance::Rows;
use crate::conformance::row::{DAY, NOW, enroll};
use crate::{AppRow, DueQuery, Keyring, KeyringError, PageQuery, Paused, WrappedRoot};

/// As they were saved last; an app that only has rows was not saved.
pub async fn apps_come_back(keyring: &dyn Keyring) {
    enroll(keyring, &[Rows::new(1).usual("a")]).await;
    assert_eq!(keyring.apps().await.expect("the keyring is available"), []);
    let running = AppRow {
        name: AppName::new("mygame").expect("a valid name"),
        client_id: ClientId::new("{22222222-2222-4222-8222-222222222222}"),
        paused: None,
        evidence_since: NOW,
        condemned_day: 0,
        condemned: 0,
    };
    let paused = Paused { reason: String::from("operator"), detail: String::from("it's \"night\""), since: NOW + DAY };
    let paused = AppRow { paused: Some(paused), condemned_day: 20_833, condemned: 1_000_000, ..running.clone() };
    let other = AppRow {
        name: AppName::new("another").expect("a valid name"),
        client_id: ClientId::new("No-GUID"),
        ..paused.clone()
    };
    for (app, expected) in [
        (&running, vec![running.clone()]),
        (&paused, vec![paused.clone()]),
        (&other, vec![other.clone(), paused.clone()]),
        (&running, vec![other.clone(), running.clone()]),
    ] {
        keyring.save_app(app).await.expect("the keyring is available");
        let mut apps = keyring.apps().await.expect("the keyring is available");
        apps.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(apps, expected);
    }
}

/// A generation is never replaced: everything sealed under it would be lost.
pub async fn roots_come_back(keyring: &dyn Keyring) {
    assert_eq!(keyring.roots().await.expect("the keyring is available"), []);
    let root = |generation, byte| WrappedRoot { generation, wrapped: vec![byte; 69], created_at: NOW };
    let (first, second) = (root(1, 1), root(2, 2));
    keyring.add_root(&second).await.expect("the keyring is available");
    keyring.add_root(&first).await.expect("the keyring is available");
    let again = keyring.add_root(&root(1, 9)).await.expect_err("there is a first root");
    assert!(matches!(again, KeyringError::RootExists { generation: 1 }), "{again}");
    let mut roots = keyring.roots().await.expect("the keyring is available");
    roots.sort_by_key(|root| root.generation);
    assert_eq!(roots, [first, second]);
}

/// Every call says so, and closing twice is once.
pub async fn a_closed_keyring_is_unavailable(keyring: &dyn Keyring) {
    let record = Rows::new(2).usual("a");
    enroll(keyring, std::slice::from_ref(&record)).await;
    keyring.close().await;
    keyring.close().await;
    let (id, identity) = (record.id, &record.identity);
    let app = AppRow {
        name: identity.app.clone(),
        client_id: ClientId::new("x"),
        paused: None,
        evidence_since: NOW,
        condemned_day: 0,
        condemned: 0,
    };
    let root = WrappedRoot { generation: 1, wrapped: Vec::new(), created_at: NOW };
    let write = crate::Write::Put { expected: crate::Expected::of(&record), record: Box::new(record.clone()) };
    let query = DueQuery {
        until: NOW,
        impossible_after: NOW,
        except: Default::default(),
        blocked: Vec::new(),
        buckets: None,
        limit: 1,
    };
    let answers = [
        keyring.find(&[id]).await.map(drop),
        keyring.find(&[id; 1000]).await.map(drop),
        keyring.of_user(&identity.app, &identity.user).await.map(drop),
        keyring.due(query).await.map(drop),
        keyring.settle(std::sync::Arc::new(vec![write])).await.map(drop),
        keyring.witnesses(&identity.app, id, NOW, 1).await.map(drop),
        keyring.page(PageQuery { limit: 1, ..PageQuery::default() }).await.map(drop),
        keyring.count(NOW, &[]).await.map(drop),
        keyring.note_used(&[(id, 1)]).await,
        keyring.apps().await.map(drop),
        keyring.save_app(&app).await,
        keyring.roots().await.map(drop),
        keyring.add_root(&root).await,
    ];
    for answer in answers {
        assert!(matches!(answer, Err(KeyringError::Unavailable(_))), "{answer:?}");
    }
}
