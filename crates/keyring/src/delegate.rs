//! `delegate!`: for a keyring that stands in front of another and changes some of its verbs: all others are led on.

/// Writes the named methods of [`Keyring`](crate::Keyring) so that each asks the field of that name for it.
///
/// ```
/// use std::sync::Arc;
/// use storekeeper_keyring::{Keyring, delegate};
///
/// struct Plain {
///     beneath: Arc<dyn Keyring>,
/// }
///
/// impl Keyring for Plain {
///     delegate!(beneath: leases, find, of_user, due, settle, witnesses, page, count, note_used, apps, save_app, roots, add_root, close);
/// }
/// ```
#[macro_export]
macro_rules! delegate {
    ($to:ident: $($method:ident),+ $(,)?) => { $($crate::delegate!(@ $method $to);)+ };
    (@ leases $to:ident) => {
        fn leases(&self) -> Option<&dyn $crate::Leases> {
            self.$to.leases()
        }
    };
    (@ find $to:ident) => {
        fn find<'a>(
            &'a self,
            ids: &'a [$crate::keyring::KeyId],
        ) -> $crate::keyring::Answer<'a, Vec<Option<$crate::Record>>> {
            self.$to.find(ids)
        }
    };
    (@ of_user $to:ident) => {
        fn of_user<'a>(
            &'a self,
            app: &'a $crate::keyring::AppName,
            user: &'a $crate::keyring::UserName,
        ) -> $crate::keyring::Answer<'a, Vec<$crate::Record>> {
            self.$to.of_user(app, user)
        }
    };
    (@ due $to:ident) => {
        fn due(&self, query: $crate::DueQuery) -> $crate::keyring::Answer<'_, $crate::Due> {
            self.$to.due(query)
        }
    };
    (@ settle $to:ident) => {
        fn settle(
            &self,
            writes: ::std::sync::Arc<Vec<$crate::Write>>,
        ) -> $crate::keyring::Answer<'_, Vec<$crate::Settled>> {
            self.$to.settle(writes)
        }
    };
    (@ witnesses $to:ident) => {
        fn witnesses<'a>(
            &'a self,
            app: &'a $crate::keyring::AppName,
            except: $crate::keyring::KeyId,
            now: $crate::keyring::Timestamp,
            limit: usize,
        ) -> $crate::keyring::Answer<'a, Vec<$crate::Record>> {
            self.$to.witnesses(app, except, now, limit)
        }
    };
    (@ page $to:ident) => {
        fn page(&self, query: $crate::PageQuery) -> $crate::keyring::Answer<'_, $crate::Page> {
            self.$to.page(query)
        }
    };
    (@ count $to:ident) => {
        fn count<'a>(
            &'a self,
            now: $crate::keyring::Timestamp,
            overdue_before: &'a [($crate::keyring::AppName, $crate::keyring::Timestamp)],
        ) -> $crate::keyring::Answer<'a, Vec<$crate::Count>> {
            self.$to.count(now, overdue_before)
        }
    };
    (@ note_used $to:ident) => {
        fn note_used<'a>(
            &'a self,
            used: &'a [($crate::keyring::KeyId, i64)],
        ) -> $crate::keyring::Answer<'a, ()> {
            self.$to.note_used(used)
        }
    };
    (@ apps $to:ident) => {
        fn apps(&self) -> $crate::keyring::Answer<'_, Vec<$crate::AppRow>> {
            self.$to.apps()
        }
    };
    (@ save_app $to:ident) => {
        fn save_app<'a>(&'a self, app: &'a $crate::AppRow) -> $crate::keyring::Answer<'a, ()> {
            self.$to.save_app(app)
        }
    };
    (@ roots $to:ident) => {
        fn roots(&self) -> $crate::keyring::Answer<'_, Vec<$crate::WrappedRoot>> {
            self.$to.roots()
        }
    };
    (@ add_root $to:ident) => {
        fn add_root<'a>(&'a self, root: &'a $crate::WrappedRoot) -> $crate::keyring::Answer<'a, ()> {
            self.$to.add_root(root)
        }
    };
    (@ close $to:ident) => {
        fn close(&self) -> $crate::keyring::Closed<'_> {
            self.$to.close()
        }
    };
}
