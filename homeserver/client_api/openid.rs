//! Proving to a third party who one is. spec: client-server-api#openid

use std::{sync::Arc, time::Duration};

use ruma::{api::client::account::request_openid_token::v3, authentication::TokenType};

use crate::{
    accounts::openid,
    app::App,
    error::Result,
    http::{Bucket, Session},
};

/// `POST /_matrix/client/v3/user/{userId}/openid/request_token`
pub async fn request_token(app: Arc<App>, session: Session, request: v3::Request) -> Result<v3::Response> {
    session.owns(&request.user_id)?;
    app.limits.take(Bucket::Other, &session.user)?;
    let token = openid::token(&app.me, &session.user);
    let lifetime = Duration::from_secs(openid::LIFETIME);
    Ok(v3::Response::new(token, TokenType::Bearer, app.me.name.clone(), lifetime))
}
