//! The suite every backend passes, and made-up keys and rows to run it with.
//!
//! A backend's test says `storekeeper_keyring::keyring_conformance!(subject);`, where `subject` is a function that makes
//! an empty keyring each time; every promise becomes a test of its own name. A keyring that several keepers share keeps
//! those of `keyring_conformance!(shared subject);` too.

pub mod case;
mod made_up;
mod row;

use std::any::Any;

use futures_util::future::BoxFuture;

use crate::Keyring;

pub use made_up::Shape;
pub use row::{Rows, enroll, put};

/// An empty keyring to be judged, and what has to live as long as it does, such as a folder.
pub struct Subject {
    /// Dropped first.
    pub keyring: Box<dyn Keyring>,
    /// Dropped last.
    pub guard: Box<dyn Any>,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subject")
    }
}

/// Judges one promise on a runtime of its own.
pub fn check(subject: Subject, case: impl for<'a> FnOnce(&'a dyn Keyring) -> BoxFuture<'a, ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers can be made");
    runtime.block_on(case(&*subject.keyring));
    drop(subject);
}

/// Makes one test of each promise for the backend that `$subject`, a `fn() -> Subject`, makes.
#[macro_export]
macro_rules! keyring_conformance {
    ($subject:path) => {
        $crate::keyring_conformance! { @cases $subject;
            settle::a_key_is_enrolled_where_none_is_and_nowhere_else
            settle::a_late_owner_changes_nothing
            settle::forget_and_enroll_again_never_meet_an_old_write
            settle::two_writes_of_one_group_are_judged_in_order
            settle::a_conflict_harms_no_other_write_of_its_group
            settle::of_many_writers_one_wins
            settle::an_empty_group_is_settled
            settle::a_write_is_made_though_nobody_waits_for_it
            row::every_field_comes_back
            row::unusable_times_come_back
            row::a_newcomer_comes_back
            row::a_history_comes_back
            find::rows_come_in_the_order_asked_for
            find::a_player_has_all_kinds_and_slots
            find::noting_use_changes_no_revision_and_is_never_taken_back
            due::the_soonest_expiry_comes_first
            due::until_is_included_and_the_next_is_told
            due::excepted_rows_do_not_count
            due::blocked_rows_are_passed_over
            due::a_wrong_clock_hides_no_failing_row
            due::a_backlog_is_drained_in_the_order_of_risk
            due::a_condemned_row_with_a_newcomer_is_due
            due::witnesses_are_alive_proven_and_unblemished
            page::pages_hold_every_row_once
            page::filters_choose
            page::rare_rows_are_found_in_the_end
            count::each_row_counts_as_it_should
            count::counts_are_exact_whatever_is_written
            other::apps_come_back
            other::roots_come_back
            other::a_closed_keyring_is_unavailable
        }
    };
    (shared $subject:path) => {
        $crate::keyring_conformance! { @cases $subject;
            lease::every_bucket_has_a_lease
            lease::a_beat_moves_and_tells_of_all
            lease::a_beat_says_how_the_clock_is
            lease::draining_stays
            lease::undraining_ends_a_drain
            lease::a_node_that_beats_is_not_removed
            lease::a_lease_changes_hands_compare_and_set
            lease::of_many_takers_one_gets_each
            lease::only_rows_of_the_buckets_asked_for_are_due
            lease::an_app_changes_compare_and_set
        }
    };
    (@cases $subject:path; $($noun:ident::$case:ident)*) => {
        $(
            #[test]
            fn $case() {
                $crate::conformance::check($subject(), |keyring| Box::pin($crate::conformance::case::$noun::$case(keyring)));
            }
        )*
    };
}
