//! Who has uploaded what: how much of it there is, all of it as a list, and its end with whoever wanted to be
//! forgotten. What somebody else has uploaded too keeps its bytes.

use ruma::UserId;

use super::shelf;
use crate::{
    accounts::users,
    base::clock,
    error::{Error, Result},
    store::{Flow, LAST, Read, WriteTx, rows::MediaRow, tables},
};

/// Files that are forgotten in one job.
pub(super) const AT_ONCE: usize = 100;
/// Rows that are gone through at once when the index is built.
const INDEXED_AT_ONCE: usize = 10_000;

/// Something that somebody has uploaded.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Its ID, on this server.
    pub id: String,
    /// What is known of it.
    pub row: MediaRow,
}

/// Notes a file, with who brought it. 403 `M_FORBIDDEN` to whoever has uploaded all that they may.
pub(super) fn add(tx: &WriteTx, key: (&str, &str), row: &MediaRow, quota: u64) -> Result<()> {
    if let Some(uploader) = &row.uploader {
        // They may have closed their account while it came.
        if users::erased_at(tx, uploader)?.is_some() {
            return Err(Error::forbidden("whoever brings this wanted to be forgotten"));
        }
        within_quota(tx, uploader, row.size, quota)?;
        let used = tables::MEDIA_USAGE.get(tx, uploader.as_str())?.unwrap_or(0);
        tables::MEDIA_USAGE.put(tx, uploader.as_str(), &(used + row.size))?;
        tables::MEDIA_BY_UPLOADER.put(tx, (uploader.as_str(), row.created, key.1), &())?;
    }
    if let Some(hash) = &row.hash {
        shelf::refer(tx, hash)?;
    }
    tables::MEDIA.put(tx, key, row)
}

/// The contrary of [`add`], also for what is announced and has not come.
pub(super) fn take_away(tx: &WriteTx, key: (&str, &str)) -> Result<()> {
    let row = tables::MEDIA.get(tx, key)?.ok_or_else(|| Error::not_found("there is no such media"))?;
    tables::MEDIA.remove(tx, key)?;
    let uploader = row.uploader.as_deref().unwrap_or_default();
    let Some(hash) = &row.hash else { return tables::PENDING_MEDIA.remove(tx, (uploader, key.1)).map(drop) };
    tables::MEDIA_BY_UPLOADER.remove(tx, (uploader, row.created, key.1))?;
    match tables::MEDIA_USAGE.get(tx, uploader)?.unwrap_or(0).saturating_sub(row.size) {
        0 => drop(tables::MEDIA_USAGE.remove(tx, uploader)?),
        used => tables::MEDIA_USAGE.put(tx, uploader, &used)?,
    }
    shelf::release(tx, hash)
}

/// Refuses somebody who has uploaded all that they may. 403 `M_FORBIDDEN`.
pub(super) fn within_quota(tx: &impl Read, uploader: &str, more: u64, quota: u64) -> Result<()> {
    let used = tables::MEDIA_USAGE.get(tx, uploader)?.unwrap_or(0);
    match used.saturating_add(more) > quota {
        true => Err(Error::forbidden(format!("you may upload {quota} bytes in all here, and have uploaded {used}"))),
        false => Ok(()),
    }
}

/// All that somebody has uploaded, oldest first.
pub fn of(tx: &impl Read, server: &str, uploader: &UserId) -> Result<Vec<Upload>> {
    let uploader = uploader.as_str();
    let all = (uploader, 0, "")..=(uploader, u64::MAX, LAST);
    let mut out = Vec::new();
    for id in tables::MEDIA_BY_UPLOADER.collect(tx, all, |(_, _, id), ()| id.to_owned())? {
        if let Some(row) = tables::MEDIA.get(tx, (server, &*id))? {
            out.push(Upload { id, row });
        }
    }
    Ok(out)
}

/// Takes away those of some IDs that are still somebody's. Returns which it were.
pub(super) fn take_some_away(tx: &WriteTx, server: &str, uploader: &UserId, ids: &[String]) -> Result<Vec<String>> {
    let mut out = Vec::new();
    for id in ids {
        let row = tables::MEDIA.get(tx, (server, &**id))?;
        if row.is_some_and(|row| row.uploader.as_deref() == Some(uploader.as_str())) {
            take_away(tx, (server, id))?;
            out.push(id.clone());
        }
    }
    Ok(out)
}

/// Notes that all goes that somebody has uploaded and announced up to now. `forget_some` then does it.
pub fn forget(tx: &WriteTx, user: &UserId) -> Result<()> {
    tables::UPLOADERS_LEAVING.put(tx, user.as_str(), &clock::now_ms())
}

/// Whether anything is to be forgotten.
pub(super) fn is_any_leaving(tx: &impl Read) -> Result<bool> {
    Ok(tables::UPLOADERS_LEAVING.len(tx)? > 0)
}

/// Forgets some of what the first one who leaves has uploaded. What comes after they were to be forgotten is
/// somebody's who was let in again, and stays.
pub(super) fn forget_some(tx: &WriteTx, server: &str) -> Result<()> {
    let mut first = None;
    tables::UPLOADERS_LEAVING.scan::<&str>(tx, .., |user, at| {
        first = Some((user.to_owned(), at));
        Ok(Flow::Stop)
    })?;
    let Some((user, at)) = first else { return Ok(()) };
    let (mut ids, user) = (Vec::new(), &*user);
    tables::MEDIA_BY_UPLOADER.scan(tx, (user, 0, "")..=(user, at, LAST), |(_, _, id), ()| {
        ids.push(id.to_owned());
        Ok(if ids.len() >= AT_ONCE { Flow::Stop } else { Flow::Next })
    })?;
    if ids.is_empty() {
        // Of these there are few at any time.
        let announced =
            tables::PENDING_MEDIA.collect(tx, (user, "")..=(user, LAST), |(_, id), when| (id.to_owned(), when))?;
        ids.extend(announced.into_iter().filter(|(_, when)| *when <= at).map(|(id, _)| id));
        tables::UPLOADERS_LEAVING.remove(tx, user)?;
    }
    for id in ids {
        take_away(tx, (server, &id))?;
    }
    Ok(())
}

/// Builds the index for a store from before it.
pub fn build(tx: &WriteTx) -> Result<()> {
    build_by(tx, INDEXED_AT_ONCE)
}

fn build_by(tx: &WriteTx, at_once: usize) -> Result<()> {
    let mut after = (String::new(), String::new());
    loop {
        let (mut seen, mut found, mut last) = (0, Vec::new(), None);
        tables::MEDIA.scan(tx, (&*after.0, &*after.1)..=(LAST, LAST), |(server, id), row| {
            seen += 1;
            last = Some((server.to_owned(), format!("{id}\0")));
            if let (Some(uploader), true) = (row.uploader, row.hash.is_some()) {
                found.push((uploader, row.created, id.to_owned()));
            }
            Ok(if seen >= at_once { Flow::Stop } else { Flow::Next })
        })?;
        for (uploader, created, id) in found {
            tables::MEDIA_BY_UPLOADER.put(tx, (&*uploader, created, &*id), &())?;
        }
        match last {
            Some(last) => after = last,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;
    use crate::accounts::testing;

    #[tokio::test]
    async fn a_store_from_before_the_index_gets_it() {
        let (_dir, store) = testing::store();
        let (alice, bob) = (user_id!("@alice:here"), user_id!("@bob:here"));
        let row = |uploader: Option<&UserId>, hash: Option<&str>, created| MediaRow {
            hash: hash.map(str::to_owned),
            content_type: None,
            filename: None,
            size: 1,
            uploader: uploader.map(UserId::to_string),
            created,
        };
        let old = move |tx: &WriteTx| {
            for (id, created) in [("a", 5), ("b", 4), ("c", 6), ("d", 1), ("e", 2)] {
                tables::MEDIA.put(tx, ("here", id), &row(Some(alice), Some("x"), created))?;
            }
            tables::MEDIA.put(tx, ("here", "bobs"), &row(Some(bob), Some("x"), 3))?;
            tables::MEDIA.put(tx, ("here", "announced"), &row(Some(alice), None, 3))?;
            tables::MEDIA.put(tx, ("there", "a"), &row(None, Some("y"), 3))?;
            build_by(tx, 2)
        };
        store.write(old).await.expect("built");
        let found = |user| store.read(|tx| of(tx, "here", user)).expect("read");
        let ids = |user| found(user).into_iter().map(|upload| upload.id).collect::<Vec<_>>();
        assert_eq!(
            (ids(alice), ids(bob)),
            (vec!["d", "e", "b", "a", "c"].into_iter().map(String::from).collect(), vec!["bobs".to_owned()])
        );
    }
}
