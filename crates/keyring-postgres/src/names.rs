//! `Names`: the numbers that stand in rows for the names of apps.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use storekeeper_model::AppName;

use crate::catalogue::{NAMES_ADD, NAMES_LOAD};
use crate::database::Database;
use crate::error::Fault;

/// Somebody else may be numbering an app at the same moment; each time one of us gets on.
const ATTEMPTS_MAX: usize = 20;

/// Names and their numbers as far as they are known here. Another keeper may have numbered more. Apps come from
/// configuration, so there are few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<RwLock<Map>>);

#[derive(Debug, Default)]
struct Map {
    by_number: BTreeMap<i32, AppName>,
    by_name: BTreeMap<AppName, i32>,
}

impl Names {
    /// The number of a name, if it is known here.
    pub(crate) fn known(&self, name: &AppName) -> Option<i32> {
        self.0.read().expect(UNPOISONED).by_name.get(name).copied()
    }

    /// The name behind a number, if it is known here.
    pub(crate) fn name(&self, number: i32) -> Option<AppName> {
        self.0.read().expect(UNPOISONED).by_number.get(&number).cloned()
    }

    fn add(&self, number: i32, name: AppName) {
        let mut map = self.0.write().expect(UNPOISONED);
        map.by_number.insert(number, name.clone());
        map.by_name.insert(name, number);
    }
}

impl Database {
    /// Reads all names there are.
    pub(crate) async fn load_names(&self) -> Result<(), Fault> {
        for row in self.query(NAMES_LOAD, &[]).await? {
            let name = AppName::new(row.try_get(1)?).map_err(|_| Fault::corrupt("app name"))?;
            self.names.add(row.try_get(0)?, name);
        }
        Ok(())
    }

    /// The number of a name, if it has one.
    pub(crate) async fn app_number(&self, name: &AppName) -> Result<Option<i32>, Fault> {
        if self.names.known(name).is_none() {
            self.load_names().await?;
        }
        Ok(self.names.known(name))
    }

    /// The number of a name; a new one gets its own, durable before anything else knows it.
    pub(crate) async fn app_number_or_new(&self, name: &AppName) -> Result<i32, Fault> {
        for _ in 0..ATTEMPTS_MAX {
            if let Some(number) = self.app_number(name).await? {
                return Ok(number);
            }
            // Doing it twice does it once: a lost connection does no harm.
            self.query(NAMES_ADD, &[&name.as_str()]).await?;
        }
        Err(Fault::Corrupt(String::from("the numbers of apps: they cannot be added to")))
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";
