//! Media that are announced before they are uploaded, so that a message can name them at once.
//! spec: client-server-api#content-repository

use std::time::Duration;

use crate::{
    base::clock,
    error::{Error, Result},
    store::{LAST, Read, WriteTx, rows::MediaRow, tables},
};

/// How long an announced file may be awaited, milliseconds.
pub const LIFETIME: u64 = 24 * 60 * 60 * 1000;
/// Files that one person may have announced and not brought.
const MAX_PENDING: usize = 10;

/// Announces a file. What the same person announced too long ago is forgotten.
pub fn announce(tx: &WriteTx, (server, id): (&str, &str), uploader: &str, now: u64) -> Result<()> {
    let all = (uploader, "")..=(uploader, LAST);
    let known = tables::PENDING_MEDIA.collect(tx, all, |(_, id), at| (id.to_owned(), at))?;
    let (old, young): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, at)| at + LIFETIME <= now);
    if young.len() >= MAX_PENDING {
        let oldest = young.iter().map(|(_, at)| *at).min().unwrap_or(now);
        return Err(Error::limited(Duration::from_millis((oldest + LIFETIME).saturating_sub(now))));
    }
    for (id, _) in old {
        tables::PENDING_MEDIA.remove(tx, (uploader, &*id))?;
        tables::MEDIA.remove(tx, (server, &*id))?;
    }
    let row = MediaRow {
        hash: None,
        content_type: None,
        filename: None,
        size: 0,
        uploader: Some(uploader.to_owned()),
        created: now,
    };
    tables::PENDING_MEDIA.put(tx, (uploader, id), &now)?;
    tables::MEDIA.put(tx, (server, id), &row)
}

/// Whether somebody may bring a file now: they have announced it, not too long ago, and it has not come.
pub fn check(tx: &impl Read, key: (&str, &str), uploader: &str) -> Result<()> {
    let missing = || Error::not_found("no such media were announced, or too long ago");
    let row = tables::MEDIA.get(tx, key)?.ok_or_else(missing)?;
    if row.uploader.as_deref() != Some(uploader) {
        return Err(Error::forbidden("somebody else has announced these media"));
    }
    if row.hash.is_some() {
        return Err(Error::conflict("M_CANNOT_OVERWRITE_MEDIA", "these media were uploaded already"));
    }
    match row.created + LIFETIME <= clock::now_ms() {
        true => Err(missing()),
        false => Ok(()),
    }
}
