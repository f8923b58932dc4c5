//! Finding rows by name: by id, and all of a player.

use storekeeper_keyring::{KeyringError, Record};
use storekeeper_model::{AppName, Identity, KeyId, UserName};

use crate::error::in_use;
use crate::reader::Reader;
use crate::row::{At, columns, decode};

/// Rows by id, in the order asked for.
pub(crate) fn find(reader: &Reader, ids: &[KeyId]) -> Result<Vec<Option<Record>>, KeyringError> {
    let mut places = Places::new(reader)?;
    let mut find_one = |id: &KeyId| {
        let known = match reader.whereabouts.place(*id) {
            Some(place) => places.read(place, |at| Ok(at.id()? == *id))?,
            None => None,
        };
        if known.is_some() { Ok(known) } else { by_id(reader, *id) }
    };
    ids.iter().map(&mut find_one).collect()
}

fn by_id(reader: &Reader, id: KeyId) -> Result<Option<Record>, KeyringError> {
    let sql = concat!("-- find::by_id\nSELECT ", columns!(), ", place FROM record WHERE id = :id");
    let mut statement = reader.connection.prepare_cached(sql).map_err(|error| in_use(&error))?;
    let mut rows = statement.query([id.as_bytes().as_slice()]).map_err(|error| in_use(&error))?;
    let Some(row) = rows.next().map_err(|error| in_use(&error))? else { return Ok(None) };
    reader.whereabouts.note(id, At::row(row).place()?);
    decode(row, &reader.names).map(Some)
}

/// Every row of a player: those without a slot by their ids, the others by name.
pub(crate) fn of_user(reader: &Reader, app: &AppName, user: &UserName) -> Result<Vec<Record>, KeyringError> {
    let Some(number) = reader.names.number(app) else { return Ok(Vec::new()) };
    let _snapshot = reader.snapshot()?;
    let mut records: Vec<Record> = find(reader, &Identity::usual_ids(app, user))?.into_iter().flatten().collect();
    let sql = concat!(
        "-- find::of_user\nSELECT ",
        columns!(),
        " FROM record INDEXED BY record_user WHERE user = :user AND app = :app AND slot <> ''"
    );
    let mut statement = reader.connection.prepare_cached(sql).map_err(|error| in_use(&error))?;
    let mut rows = statement.query((user.as_str(), number)).map_err(|error| in_use(&error))?;
    while let Some(row) = rows.next().map_err(|error| in_use(&error))? {
        records.push(decode(row, &reader.names)?);
    }
    records.sort_unstable_by_key(|record| record.id);
    Ok(records)
}

/// Reads rows by their places in the table.
pub(crate) struct Places<'r> {
    statement: rusqlite::CachedStatement<'r>,
    reader: &'r Reader,
}

impl<'r> Places<'r> {
    /// Prepares to read.
    pub(crate) fn new(reader: &'r Reader) -> Result<Self, KeyringError> {
        let sql = concat!("-- find::Places\nSELECT ", columns!(), " FROM record WHERE place = :place");
        let statement = reader.connection.prepare_cached(sql).map_err(|error| in_use(&error))?;
        Ok(Self { statement, reader })
    }

    /// The row at a place, if there is one and `wanted` says so after a look at it.
    pub(crate) fn read(
        &mut self,
        place: i64,
        wanted: impl FnOnce(At<'_, '_>) -> Result<bool, KeyringError>,
    ) -> Result<Option<Record>, KeyringError> {
        let mut rows = self.statement.query([place]).map_err(|error| in_use(&error))?;
        let Some(row) = rows.next().map_err(|error| in_use(&error))? else { return Ok(None) };
        if wanted(At::row(row))? { decode(row, &self.reader.names).map(Some) } else { Ok(None) }
    }
}
