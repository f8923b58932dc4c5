//! A renewal asked of a keeper that does not own the row's bucket: the row is made due now, and its owner's outcome waited
//! for.

use std::time::Duration;

use storekeeper_keyring::{Keyring, OutcomeResult, Record};
use storekeeper_model::Timestamp;

use crate::error::{ReadError, RenewError};
use crate::keeper::Keeper;
use crate::view::KeyView;
use crate::{events, shell};

/// How often the row is looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(200);

impl Keeper {
    /// Has the owner renew a row as it was read here, and waits for the outcome until this instant.
    pub(crate) async fn renew_elsewhere(&self, before: &Record, until: Timestamp) -> Result<KeyView, RenewError> {
        shell::hasten(&self.inner.tools, vec![before.id], None).await;
        let mut now = self.clock().now();
        while now < until {
            // Held until the row has been looked at, or a virtual clock would run past us.
            let _hold = self.clock().sleep_until(now + LOOK_PAUSE).await;
            let rows = self.inner.tools.keyring.find(&[before.id]).await.map_err(ReadError::Keyring)?;
            let row = rows.into_iter().next().flatten().ok_or(ReadError::NotFound)?;
            now = self.clock().now();
            if let Some(outcome) = outcome(before, &row, now) {
                return outcome;
            }
        }
        Err(RenewError::Failed { code: "under_way", retry_after: None })
    }
}

/// What has become of the row since, if anything has.
fn outcome(before: &Record, row: &Record, now: Timestamp) -> Option<Result<KeyView, RenewError>> {
    let last = row.history.iter().last();
    if row.key_version != before.key_version {
        return Some(Ok(KeyView::of(row, now)));
    }
    let last = last.filter(|last| before.history.iter().last().as_ref() != Some(last))?;
    Some(match last.result {
        OutcomeResult::Refused | OutcomeResult::Revoked | OutcomeResult::Dropped => Err(RenewError::Refused),
        OutcomeResult::Failed => Err(RenewError::Failed { code: events::known_code(&last.code), retry_after: None }),
        // Somebody has enrolled or acquitted; the renewal is to come.
        _ => return None,
    })
}
