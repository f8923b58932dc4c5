//! `Name`: which key is meant, and where the keeper's routes to it are.

use clap::Args;
use storekeeper_model::KeyKind;

use crate::answer::Stats;
use crate::exit::{CommandError, Exit};
use crate::remote::{Remote, encoded};
use crate::target::Target;

/// Whose key.
#[derive(Debug, Clone, Args)]
pub(super) struct Name {
    /// The player, as the backend names them
    #[arg(value_name = "USER")]
    pub(super) user: String,
    #[command(flatten)]
    pub(super) place: Place,
}

/// Where a player's keys stand.
#[derive(Debug, Clone, Args)]
pub(super) struct Place {
    /// The app; the only one there is unless told
    #[arg(long, value_name = "APP")]
    pub(super) app: Option<String>,
    /// Which of the player's Store accounts
    #[arg(long, value_name = "SLOT", default_value = "", hide_default_value = true)]
    pub(super) slot: String,
    #[command(flatten)]
    pub(super) target: Target,
}

impl Place {
    /// The app that is meant: the named one, or the only one.
    ///
    /// # Errors
    /// When there are several, naming them.
    pub(super) async fn app(&self, keeper: &Remote) -> Result<String, CommandError> {
        if let Some(app) = &self.app {
            return Ok(app.clone());
        }
        let stats: Stats = keeper.get("/v1/stats").await?;
        let mut names = stats.apps.into_keys();
        match (names.next(), names.next()) {
            (Some(only), None) => Ok(only),
            (None, _) => Err(CommandError::new(Exit::NotFound, "the keeper has no app that this token may see")),
            (Some(one), Some(other)) => {
                let all: Vec<String> = [one, other].into_iter().chain(names).collect();
                let message = format!("there are several apps: name one with --app ({})", all.join(", "));
                Err(CommandError::new(Exit::Usage, message))
            }
        }
    }

    fn slot_query(&self) -> String {
        if self.slot.is_empty() { String::new() } else { format!("?slot={}", encoded(&self.slot)) }
    }
}

impl Name {
    /// The keeper, and the path of the player there.
    ///
    /// # Errors
    /// When there is no keeper, or the app is not known.
    pub(super) async fn player(&self) -> Result<(Remote, String), CommandError> {
        let data = self.place.target.data()?;
        let path = self.path("/v1", &data).await?;
        Ok((data, path))
    }

    /// The admin listener, and the path of the player there.
    ///
    /// # Errors
    /// As [`Name::player`].
    pub(super) async fn player_for_operators(&self) -> Result<(Remote, String), CommandError> {
        let admin = self.place.target.admin()?;
        let path = match &self.place.app {
            Some(_) => self.path("/v1/admin", &admin).await?,
            None => self.path("/v1/admin", &self.place.target.data()?).await?,
        };
        Ok((admin, path))
    }

    async fn path(&self, root: &str, keeper: &Remote) -> Result<String, CommandError> {
        if self.user.is_empty() {
            return Err(CommandError::new(Exit::Usage, "the user name is empty"));
        }
        let app = self.place.app(keeper).await?;
        Ok(format!("{root}/apps/{}/users/{}", encoded(&app), encoded(&self.user)))
    }

    /// The path of one of the player's keys.
    pub(super) fn key(&self, player: &str, kind: KeyKind) -> String {
        format!("{player}/keys/{kind}{}", self.place.slot_query())
    }

    /// A path below one of the player's keys.
    pub(super) fn below_key(&self, player: &str, kind: KeyKind, what: &str) -> String {
        format!("{player}/keys/{kind}/{what}{}", self.place.slot_query())
    }

    /// The path of all of them; without a slot, of all slots.
    pub(super) fn all(&self, player: &str) -> String {
        format!("{player}{}", self.place.slot_query())
    }
}

/// The kinds that are meant: the named one, or both.
pub(super) fn kinds(kind: Option<KeyKind>) -> Vec<KeyKind> {
    kind.map_or_else(|| KeyKind::ALL.to_vec(), |kind| vec![kind])
}

/// What was found of the kinds that are meant. A kind that is not there is an error only where none is.
///
/// # Errors
/// The first kind's, when nothing was found.
pub(super) fn found<T>(asked: Vec<Result<T, CommandError>>) -> Result<Vec<T>, CommandError> {
    let mut found = Vec::new();
    let mut missing = None;
    for answer in asked {
        match answer {
            Ok(value) => found.push(value),
            Err(error) if error.exit == Exit::NotFound => missing = missing.or(Some(error)),
            Err(error) => return Err(error),
        }
    }
    match missing {
        Some(error) if found.is_empty() => Err(error),
        _ => Ok(found),
    }
}
