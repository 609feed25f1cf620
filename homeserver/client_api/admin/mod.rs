//! The administration: paths and shapes of Synapse's admin API, so that the tools there are for it work here
//! too; the spec's own endpoints where it has some; and under `chat.hearth.admin` what neither has. Only for
//! administrators; what they change is logged.

mod accounts;
mod federation;
mod media;
mod moderation;
mod notices;
mod pushers;
mod removal;
mod reports;
mod rooms;
mod server;
mod tokens;

use std::{str::FromStr, sync::Arc};

use ruma::{OwnedUserId, UserId};

use crate::{
    accounts::users,
    app::App,
    error::{Error, Result},
    http::{Asked, Router, untyped::route_for_admins as route},
    rooms::admins,
    store::{Read, rows::UserRow},
};

pub use removal::resume;

/// Entries of a list if the tool does not say how many, and at most.
const PAGE: usize = 100;
const MAX_PAGE: usize = 1000;

/// The endpoints.
pub fn routes(router: &mut Router) {
    accounts::routes(router);
    moderation::routes(router);
    tokens::routes(router);
    rooms::routes(router);
    removal::routes(router);
    reports::routes(router);
    notices::routes(router);
    federation::routes(router);
    media::routes(router);
    pushers::routes(router);
    server::routes(router);
}

/// The account that a path names. 400 if it is of another server, 404 if there is none.
fn account(app: &App, tx: &impl Read, user: &UserId) -> Result<UserRow> {
    if !app.me.owns(user) {
        return Err(Error::invalid_param("this account is not of this server"));
    }
    users::lookup(tx, user)?.ok_or_else(|| Error::not_found("there is no such account"))
}

/// Refuses what must not be done to the account that the server itself speaks by.
fn check_not_server(tx: &impl Read, user: &UserId) -> Result<()> {
    match admins::server_account(tx)?.as_deref() == Some(user) {
        true => Err(Error::forbidden("this is the server's own account")),
        false => Ok(()),
    }
}

/// Which part of a list is asked for: where it begins, and how long it is.
fn part(asked: &Asked) -> Result<(usize, usize)> {
    let from = asked.query_as("from")?.unwrap_or(0);
    let limit: usize = asked.query_as("limit")?.unwrap_or(PAGE);
    Ok((from, limit.clamp(1, MAX_PAGE)))
}

/// Whether a list is asked for from its end.
fn backward(asked: &Asked, default: bool) -> Result<bool> {
    match asked.query("dir") {
        None => Ok(default),
        Some("f") => Ok(false),
        Some("b") => Ok(true),
        Some(_) => Err(Error::invalid_param("dir is \"f\" or \"b\"")),
    }
}

/// A flag in the query.
fn flag(asked: &Asked, name: &str) -> Result<Option<bool>> {
    let parse = |text: &str| bool::from_str(text).map_err(|_| Error::invalid_param(format!("{name} is true or false")));
    asked.query(name).map(parse).transpose()
}

/// Runs what looks through much where it keeps no other request waiting.
async fn look<T: Send + 'static>(
    app: Arc<App>,
    work: impl FnOnce(&App, &crate::store::ReadTx) -> Result<T> + Send + 'static,
) -> Result<T> {
    super::blocking(move || app.store.read(|tx| work(&app, tx))).await
}

/// The user that the first argument of a path names.
fn named(asked: &Asked) -> Result<OwnedUserId> {
    asked.path(0)
}
