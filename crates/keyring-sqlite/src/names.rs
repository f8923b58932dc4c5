//! `Names`: the numbers that stand in rows for the names of apps.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use rusqlite::Connection;
use storekeeper_keyring::KeyringError;
use storekeeper_model::AppName;

use crate::error::{corrupt, in_use};

/// Names and their numbers, shared by all threads. Apps come from configuration, so there are few.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names(Arc<RwLock<Map>>);

#[derive(Debug, Default)]
struct Map {
    by_number: BTreeMap<i64, AppName>,
    by_name: BTreeMap<AppName, i64>,
}

impl Names {
    /// The number of a name, if it has one.
    pub(crate) fn number(&self, name: &AppName) -> Option<i64> {
        self.0.read().expect(UNPOISONED).by_name.get(name).copied()
    }

    /// The name behind a number in a row.
    pub(crate) fn name(&self, number: i64) -> Result<AppName, KeyringError> {
        self.0.read().expect(UNPOISONED).by_number.get(&number).cloned().ok_or_else(|| corrupt("app"))
    }

    /// The number of a name; a new one gets its own, durable before anything else knows it.
    pub(crate) fn number_or_new(&self, connection: &Connection, name: &AppName) -> Result<i64, KeyringError> {
        if let Some(number) = self.number(name) {
            return Ok(number);
        }
        let sql = "-- names::number_or_new
                   INSERT INTO app (name) VALUES (:name) RETURNING number";
        let number = connection.query_row(sql, [name.as_str()], |row| row.get(0)).map_err(|error| in_use(&error))?;
        self.add(number, name.clone());
        Ok(number)
    }

    /// Reads all there are.
    pub(crate) fn load(&self, connection: &Connection) -> Result<(), KeyringError> {
        let load = || {
            let mut statement = connection.prepare("-- names::load\nSELECT number, name FROM app")?;
            let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?)))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        for (number, name) in load().map_err(|error| in_use(&error))? {
            self.add(number, AppName::new(&name).map_err(|_| corrupt("app name"))?);
        }
        Ok(())
    }

    fn add(&self, number: i64, name: AppName) {
        let mut map = self.0.write().expect(UNPOISONED);
        map.by_number.insert(number, name.clone());
        map.by_name.insert(name, number);
    }
}

const UNPOISONED: &str = "nothing panics while it holds the lock";
