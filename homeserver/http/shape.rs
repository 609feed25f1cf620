//! Requests of endpoints whose ruma type doesn't fit as it is: [`Guarded`], for user-interactive
//! authentication, which has to know what exactly is asked for; and [`Loose`] and [`Queried`], where clients
//! send more or other than the type takes, in the body or in the query. Path, method and authentication stay those of the type.

use std::{collections::HashMap, marker::PhantomData};

use http::{Method, Request};
use ruma::api::{IncomingRequest, Metadata, error::DeserializationError, path_builder::PathBuilder};
use serde::de::{DeserializeOwned, Error as _};
use serde_json::{Map, Value};

use super::untyped;
use crate::accounts::uia::{Auth, Operation};

/// Bytes of a guarded request's body at most: it is looked at as a whole, which takes a multiple of it.
const MAX_GUARDED: usize = 256 * 1024;

/// A request that needs user-interactive authentication.
pub struct Guarded<R> {
    /// What is asked for.
    pub request: R,
    /// How the client proves itself.
    pub auth: Option<Auth>,
    /// What a proof is good for: this endpoint with these arguments and this body, less `auth`.
    pub operation: Operation,
}

/// A request to the endpoint of `R` whose body is read as `T`.
pub struct Loose<R, T> {
    /// The body. A missing one is an empty object.
    pub body: T,
    /// The arguments in the path, decoded.
    pub path: Vec<String>,
    endpoint: PhantomData<fn() -> R>,
}

/// A request whose query says more than its type knows.
pub struct Queried<R> {
    /// What the type knows of it.
    pub request: R,
    query: HashMap<String, String>,
}

impl<R> Queried<R> {
    /// An argument in the query.
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }
}

impl<R: Metadata> Metadata for Queried<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Queried<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(request: Request<&[u8]>, arguments: &[&str]) -> Result<Self, DeserializationError> {
        // What can't be decoded is for the type to refuse.
        let query = untyped::query(request.uri().query().unwrap_or_default()).unwrap_or_default();
        Ok(Self { request: R::try_from_http_request_inner(request, arguments)?, query })
    }
}

impl<R: Metadata> Metadata for Guarded<R> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest> IncomingRequest for Guarded<R> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(request: Request<&[u8]>, arguments: &[&str]) -> Result<Self, DeserializationError> {
        let (head, body) = request.into_parts();
        if body.len() > MAX_GUARDED {
            return Err(serde_json::Error::custom(format!("the body is larger than {MAX_GUARDED} bytes")).into());
        }
        let mut body: Map<String, Value> = serde_json::from_slice(or_object(body))?;
        let auth = body.remove("auth").filter(|auth| !auth.is_null()).map(serde_json::from_value).transpose()?;
        let path = R::PATH_BUILDER.all_paths().next().unwrap_or_default();
        let operation = Operation::new(R::METHOD.as_str(), path, arguments, &body);
        let bytes = serde_json::to_vec(&body)?;
        drop(body);
        Ok(Self {
            request: R::try_from_http_request_inner(Request::from_parts(head, &bytes), arguments)?,
            auth,
            operation,
        })
    }
}

impl<R: Metadata, T> Metadata for Loose<R, T> {
    const METHOD: Method = R::METHOD;
    const RATE_LIMITED: bool = R::RATE_LIMITED;
    type Authentication = R::Authentication;
    type PathBuilder = R::PathBuilder;
    const PATH_BUILDER: Self::PathBuilder = R::PATH_BUILDER;
}

impl<R: IncomingRequest, T: DeserializeOwned> IncomingRequest for Loose<R, T> {
    type EndpointError = R::EndpointError;
    type OutgoingResponse = R::OutgoingResponse;

    fn try_from_http_request_inner(request: Request<&[u8]>, arguments: &[&str]) -> Result<Self, DeserializationError> {
        let body = serde_json::from_slice(or_object(request.body()))?;
        let path = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        Ok(Self { body, path, endpoint: PhantomData })
    }
}

fn or_object(body: &[u8]) -> &[u8] {
    match body.is_empty() {
        true => b"{}",
        false => body,
    }
}

#[cfg(test)]
mod tests {
    use ruma::api::{
        IncomingRequestExt,
        client::{account::change_password, device::delete_device},
    };

    use super::*;

    #[test]
    fn an_operation_is_all_that_is_asked_for_and_not_how_it_is_proved() {
        let ask = |device: &str, body: &str| {
            let request = Request::delete("/x").body(body.as_bytes()).expect("a request");
            Guarded::<delete_device::v3::Request>::try_from_http_request(request, &[device]).expect("parses")
        };
        let plain = ask("OLD", "");
        assert!(plain.auth.is_none());
        assert_eq!(plain.request.device_id, "OLD");
        let proved = ask("OLD", r#"{"auth":{"type":"m.login.dummy","session":"s"}}"#);
        assert_eq!(proved.auth.and_then(|auth| auth.session).as_deref(), Some("s"));
        assert!(proved.operation == plain.operation);
        assert!(ask("NEW", "").operation != plain.operation);
        assert!(ask("OLD", r#"{"x":1}"#).operation != plain.operation);
        assert!(ask("OLD", r#"{"auth":null}"#).auth.is_none());
    }

    #[test]
    fn a_body_that_would_take_a_lot_of_memory_is_refused() {
        let ask = |zeros: usize| {
            let body = format!(r#"{{"new_password":"x","x":[{}0]}}"#, "0,".repeat(zeros));
            let request = Request::post("/x").body(body.as_bytes()).expect("a request");
            Guarded::<change_password::v3::Request>::try_from_http_request(request, &[]).is_ok()
        };
        assert!(ask(1000));
        assert!(!ask(MAX_GUARDED));
    }

    #[test]
    fn bodies_of_the_wrong_form_are_refused() {
        for body in ["[]", "3", "{\"new_password\":7}", "{\"new_password\":\"x\",\"auth\":{\"type\":1}}", "{"] {
            let request = Request::post("/x").body(body.as_bytes()).expect("a request");
            let parsed = Guarded::<change_password::v3::Request>::try_from_http_request(request, &[]);
            assert!(parsed.is_err(), "{body}");
        }
    }
}
