//! E-mail addresses and telephone numbers: this server sends neither letters nor messages there, so nobody has one
//! here. spec: client-server-api#adding-account-administrative-contact-information

use std::sync::Arc;

use http::Method;
use ruma::api::client::account::{
    ThirdPartyIdRemovalStatus, add_3pid, bind_3pid, delete_3pid,
    request_3pid_management_token_via_email as manage_email, request_3pid_management_token_via_msisdn as manage_msisdn,
    request_password_change_token_via_email as password_email,
    request_password_change_token_via_msisdn as password_msisdn,
    request_registration_token_via_email as register_email, request_registration_token_via_msisdn as register_msisdn,
    unbind_3pid,
};

use crate::{
    app::App,
    error::{Error, Result},
    http::{Asked, Caller, Reply, Router, Session, untyped},
};

/// The endpoints.
pub fn routes(router: &mut Router) {
    router.route(add).route(bind).route(delete).route(unbind);
    untyped::route(router, Method::POST, "/_matrix/client/v3/account/3pid", add_of_old);
    router.route(to_manage_by_email).route(to_manage_by_msisdn);
    router.route(to_register_by_email).route(to_register_by_msisdn);
    router.route(to_change_password_by_email).route(to_change_password_by_msisdn);
}

fn denied<T>() -> Result<T> {
    Err(Error::forbidden_as("M_THREEPID_DENIED", "this server takes no e-mail addresses and telephone numbers"))
}

/// `POST /_matrix/client/v3/account/3pid/add`: nothing was ever proved that could be added.
async fn add(_: Arc<App>, _: Session, _: add_3pid::v3::Request) -> Result<add_3pid::v3::Response> {
    Err(Error::bad_request("M_THREEPID_AUTH_FAILED", "nothing was proved about this address"))
}

/// `POST /_matrix/client/v3/account/3pid`, by which it was done once.
async fn add_of_old(_: Arc<App>, _: Asked) -> Result<Reply> {
    Err(Error::forbidden_as("M_THREEPID_AUTH_FAILED", "nothing was proved about this address"))
}

/// `POST /_matrix/client/v3/account/3pid/bind`
async fn bind(_: Arc<App>, _: Session, _: bind_3pid::v3::Request) -> Result<bind_3pid::v3::Response> {
    Err(Error::bad_request("M_SERVER_NOT_TRUSTED", "this server trusts no identity server"))
}

/// `POST /_matrix/client/v3/account/3pid/delete`: it is not there, as is wanted.
async fn delete(_: Arc<App>, _: Session, _: delete_3pid::v3::Request) -> Result<delete_3pid::v3::Response> {
    Ok(delete_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

/// `POST /_matrix/client/v3/account/3pid/unbind`
async fn unbind(_: Arc<App>, _: Session, _: unbind_3pid::v3::Request) -> Result<unbind_3pid::v3::Response> {
    Ok(unbind_3pid::v3::Response::new(ThirdPartyIdRemovalStatus::NoSupport))
}

/// `POST /_matrix/client/v3/account/3pid/email/requestToken`
async fn to_manage_by_email(
    _: Arc<App>,
    _: Caller,
    _: manage_email::v3::Request,
) -> Result<manage_email::v3::Response> {
    denied()
}

/// `POST /_matrix/client/v3/account/3pid/msisdn/requestToken`
async fn to_manage_by_msisdn(
    _: Arc<App>,
    _: Caller,
    _: manage_msisdn::v3::Request,
) -> Result<manage_msisdn::v3::Response> {
    denied()
}

/// `POST /_matrix/client/v3/register/email/requestToken`
async fn to_register_by_email(
    _: Arc<App>,
    _: Caller,
    _: register_email::v3::Request,
) -> Result<register_email::v3::Response> {
    denied()
}

/// `POST /_matrix/client/v3/register/msisdn/requestToken`
async fn to_register_by_msisdn(
    _: Arc<App>,
    _: Caller,
    _: register_msisdn::v3::Request,
) -> Result<register_msisdn::v3::Response> {
    denied()
}

fn nobodys<T>() -> Result<T> {
    Err(Error::bad_request("M_THREEPID_NOT_FOUND", "no account here has this address"))
}

/// `POST /_matrix/client/v3/account/password/email/requestToken`
async fn to_change_password_by_email(
    _: Arc<App>,
    _: Caller,
    _: password_email::v3::Request,
) -> Result<password_email::v3::Response> {
    nobodys()
}

/// `POST /_matrix/client/v3/account/password/msisdn/requestToken`
async fn to_change_password_by_msisdn(
    _: Arc<App>,
    _: Caller,
    _: password_msisdn::v3::Request,
) -> Result<password_msisdn::v3::Response> {
    nobodys()
}
