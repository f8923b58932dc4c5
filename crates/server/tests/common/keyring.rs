//! The memory keyring, which can be told to lose every race or to panic.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use storekeeper_keyring::{
    ClockReport, Keyring, KeyringError, LeaseChange, MemoryKeyring, NodeId, Presence, Record, Settled, Write, delegate,
};
use storekeeper_model::KeyId;

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Default)]
pub(crate) enum Mood {
    #[default]
    Calm,
    /// Somebody else has always just written the row.
    Contended,
    /// Reading a row panics.
    Buggy,
}

#[derive(Default)]
pub(crate) struct TestKeyring {
    pub(crate) memory: MemoryKeyring,
    mood: Mutex<Mood>,
}

impl TestKeyring {
    /// One that several keepers can share.
    pub(crate) fn shared() -> Self {
        Self { memory: MemoryKeyring::shared(), ..Self::default() }
    }

    /// One that several share, and of which another node has every lease.
    pub(crate) async fn of_another_node() -> Self {
        let memory = MemoryKeyring::shared();
        let leases = memory.leases().unwrap();
        let other = NodeId::from_bytes([9; 16]);
        leases
            .beat(&Presence {
                id: other,
                name: "another".into(),
                draining: false,
                leaving: false,
                clock: ClockReport::Unknown,
            })
            .await
            .unwrap();
        let taken = leases.all().await.unwrap().into_iter().map(|seen| LeaseChange { seen, owner: Some(other) });
        leases.change(taken.collect()).await.unwrap();
        Self { memory, ..Self::default() }
    }

    pub(crate) fn set_mood(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    fn is(&self, mood: Mood) -> bool {
        *self.mood.lock().unwrap() == mood
    }
}

impl Keyring for TestKeyring {
    delegate!(memory: leases, of_user, due, witnesses, page, count, note_used, apps, save_app, roots, add_root, close);

    fn find<'a>(&'a self, ids: &'a [KeyId]) -> BoxFuture<'a, Result<Vec<Option<Record>>, KeyringError>> {
        assert!(!self.is(Mood::Buggy), "a bug that mentions a secret");
        self.memory.find(ids)
    }

    fn settle(&self, writes: Arc<Vec<Write>>) -> BoxFuture<'_, Result<Vec<Settled>, KeyringError>> {
        if self.is(Mood::Contended) {
            return std::future::ready(Ok(vec![Settled::Conflict; writes.len()])).boxed();
        }
        self.memory.settle(writes)
    }
}
