//! How what one keeper changed of an app goes together with what another one did.

use storekeeper_keyring::AppRow;

use crate::engine::PauseReason;

/// What `ours` changed since `seen`, made upon `theirs`.
pub(crate) fn merge(seen: &AppRow, ours: &AppRow, theirs: &AppRow) -> AppRow {
    let is_operators =
        |row: &AppRow| row.paused.as_ref().is_some_and(|one| one.reason == PauseReason::Operator.as_str());
    // An operator's word that we have not heard outranks ours.
    let is_overruled = is_operators(theirs) && !is_operators(seen);
    let keeps_theirs = ours.paused == seen.paused || is_overruled;
    let (condemned_day, condemned) = add_condemned(seen, ours, theirs);
    AppRow {
        name: ours.name.clone(),
        client_id: ours.client_id.clone(),
        paused: if keeps_theirs { theirs.paused.clone() } else { ours.paused.clone() },
        evidence_since: ours.evidence_since.max(theirs.evidence_since),
        condemned_day,
        condemned,
    }
}

fn add_condemned(seen: &AppRow, ours: &AppRow, theirs: &AppRow) -> (i64, u64) {
    let on = |row: &AppRow, day| if row.condemned_day == day { row.condemned } else { 0 };
    let day = ours.condemned_day.max(theirs.condemned_day);
    if ours.is_cap_lifted(day) || theirs.is_cap_lifted(day) {
        return (day, AppRow::CAP_LIFTED);
    }
    (day, on(theirs, day).saturating_add(on(ours, day)).saturating_sub(on(seen, day)))
}

#[cfg(test)]
mod tests {
    use storekeeper_keyring::Paused;
    use storekeeper_model::{AppName, ClientId, Timestamp};

    use super::*;

    fn row(paused: Option<&str>, since: i64, day: i64, condemned: u64) -> AppRow {
        let paused = paused.map(|reason| Paused {
            reason: reason.to_owned(),
            detail: String::new(),
            since: Timestamp::from_seconds(since),
        });
        AppRow {
            name: AppName::new("mygame").unwrap(),
            client_id: ClientId::new("x"),
            paused,
            evidence_since: Timestamp::from_seconds(since),
            condemned_day: day,
            condemned,
        }
    }

    #[test]
    fn what_nobody_else_changed_is_ours() {
        let seen = row(None, 1, 7, 3);
        let ours = row(Some("guard"), 5, 7, 4);
        assert_eq!(merge(&seen, &ours, &seen), ours);
    }

    #[test]
    fn counts_add_up_and_pauses_do_not_vanish() {
        let seen = row(None, 1, 7, 3);
        let theirs = row(Some("operator"), 9, 7, 10);
        assert_eq!(merge(&seen, &row(None, 1, 7, 5), &theirs), row(Some("operator"), 9, 7, 12));
        let guarded = row(Some("guard"), 2, 7, 3);
        let resumed = row(None, 8, 7, 3);
        assert_eq!(merge(&guarded, &resumed, &theirs).paused, theirs.paused, "an operator outranks a probe");
        assert_eq!(merge(&theirs, &row(None, 12, 7, 10), &theirs).paused, None, "an operator who knew it resumes");
    }

    #[test]
    fn a_cap_that_is_lifted_stays_so_for_the_day() {
        let (seen, lifted) = (row(None, 1, 7, 1000), row(None, 1, 7, AppRow::CAP_LIFTED));
        assert_eq!(merge(&seen, &lifted, &row(None, 1, 7, 1003)), lifted);
        assert_eq!(merge(&seen, &row(None, 1, 7, 1003), &lifted), lifted);
        assert_eq!(merge(&lifted, &row(None, 1, 8, 2), &lifted), row(None, 1, 8, 2));
    }

    #[test]
    fn a_new_day_counts_from_nothing() {
        let seen = row(None, 1, 7, 900);
        assert_eq!(merge(&seen, &row(None, 1, 8, 2), &seen), row(None, 1, 8, 2));
        assert_eq!(merge(&seen, &row(None, 1, 7, 901), &row(None, 1, 8, 5)), row(None, 1, 8, 5));
    }
}
