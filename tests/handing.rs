//! One device helps another to sign in.

use reqwest::Method;
use serde_json::json;

use crate::common::Server;

const GET_TOKEN: &str = "/_matrix/client/v1/login/get_token";
const LOGIN: &str = "/_matrix/client/v3/login";
const TEXTS: &str = "/_matrix/client/unstable/org.matrix.msc4108/rendezvous";
const JSON: &str = "/_matrix/client/unstable/io.element.msc4388/rendezvous";

#[tokio::test]
async fn another_device_signs_in_by_a_token_that_is_good_once() {
    let server = Server::start().await;
    let alice = server.register("alice").await;
    let guest = server.guest();
    let flows = guest.get(LOGIN).await.ok();
    assert!(
        flows["flows"].as_array().expect("flows").contains(&json!({"type": "m.login.token", "get_login_token": true}))
    );
    let capabilities = alice.get("/_matrix/client/v3/capabilities").await.ok();
    assert_eq!(capabilities["capabilities"]["m.get_login_token"], json!({"enabled": true}));
    guest.post(GET_TOKEN, json!({})).await.fails(401, "M_MISSING_TOKEN");
    let proof = async |user: &crate::common::User| {
        let asked = user.post(GET_TOKEN, json!({})).await;
        assert_eq!(asked.status, 401, "the password is asked for: {}", asked.body);
        let identifier = json!({"type": "m.id.user", "user": "alice"});
        let auth = json!({"type": "m.login.password", "session": asked.body["session"], "identifier": identifier,
                          "password": Server::password("alice")});
        user.post(GET_TOKEN, json!({"auth": auth})).await.ok()
    };
    let made = proof(&alice).await;
    assert_eq!(made["expires_in_ms"], 120_000);
    let login = json!({"type": "m.login.token", "token": made["login_token"], "initial_device_display_name": "new"});
    let signed_in = guest.post(LOGIN, login.clone()).await.ok();
    assert_eq!(signed_in["user_id"], alice.id);
    assert_ne!(signed_in["device_id"], alice.device);
    guest.post(LOGIN, login).await.fails(403, "M_FORBIDDEN");
    guest.post(LOGIN, json!({"type": "m.login.token", "token": "x"})).await.fails(403, "M_FORBIDDEN");
    guest.post(LOGIN, json!({"type": "m.login.token"})).await.fails(400, "M_MISSING_PARAM");

    // What a device had made is of no use once it is signed out.
    let old = server.login("alice").await;
    let made = proof(&old).await;
    old.post("/_matrix/client/v3/logout", json!({})).await.ok();
    let login = json!({"type": "m.login.token", "token": made["login_token"]});
    guest.post(LOGIN, login).await.fails(403, "M_FORBIDDEN");
}

#[tokio::test]
async fn two_devices_meet_by_texts() {
    let server = Server::start().await;
    let device = server.guest();
    let ask = async |method: Method, url: &str, headers: &[(&str, &str)], body: &str| {
        let mut request = device.http.request(method, url).header("content-type", "text/plain").body(body.to_owned());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let (status, etag, kind) = (answer.status().as_u16(), header("etag"), header("content-type"));
        (status, etag.unwrap_or_default(), kind.unwrap_or_default(), answer.text().await.expect("text"))
    };
    let (status, first, _, body) = ask(Method::POST, &format!("{}{TEXTS}", server.url), &[], "one").await;
    assert_eq!(status, 201, "{body}");
    let body: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    let url = body["url"].as_str().expect("an address");
    assert!(url.starts_with(&server.url));
    let (status, etag, kind, word) = ask(Method::GET, url, &[], "").await;
    assert_eq!((status, &*kind, &*word, &etag), (200, "text/plain", "one", &first));
    assert_eq!(ask(Method::GET, url, &[("if-none-match", &first)], "").await.0, 304);
    let (status, second, ..) = ask(Method::PUT, url, &[("if-match", &first)], "two").await;
    assert!(status == 202 && second != first);
    let (status, .., body) = ask(Method::PUT, url, &[("if-match", &first)], "three").await;
    assert!(status == 412 && body.contains("M_CONCURRENT_WRITE"), "{body}");
    assert_eq!(ask(Method::GET, url, &[("if-none-match", &first)], "").await.3, "two");
    assert_eq!(ask(Method::PUT, url, &[("if-match", &second)], &"x".repeat(4097)).await.0, 413);
    assert_eq!(ask(Method::GET, url, &[("sec-fetch-dest", "document")], "").await.0, 403);
    assert_eq!(ask(Method::DELETE, url, &[], "").await.0, 200);
    assert_eq!(ask(Method::GET, url, &[], "").await.0, 404);
}

#[tokio::test]
async fn two_devices_meet_by_json() {
    let server = Server::start().await;
    let device = server.guest();
    assert_eq!(device.get(JSON).await.ok(), json!({"create_available": true}));
    let made = device.post(JSON, json!({"data": "one"})).await.ok();
    let place = format!("{JSON}/{}", made["id"].as_str().expect("an ID"));
    assert!(made["expires_in_ms"].as_u64().is_some_and(|left| (120_000..=300_000).contains(&left)));
    let seen = device.get(&place).await.ok();
    assert_eq!((&seen["data"], &seen["sequence_token"]), (&json!("one"), &made["sequence_token"]));
    let put = async |token: &serde_json::Value, data: &str| {
        device.put(&place, json!({"sequence_token": token, "data": data})).await
    };
    let second = put(&seen["sequence_token"], "two").await.ok()["sequence_token"].clone();
    assert_ne!(second, seen["sequence_token"]);
    assert_eq!(put(&seen["sequence_token"], "two").await.ok()["sequence_token"], second, "said again, it is the same");
    put(&seen["sequence_token"], "three").await.fails(409, "IO_ELEMENT_MSC4388_CONCURRENT_WRITE");
    assert_eq!(device.get(&place).await.ok()["data"], "two");
    put(&second, &"x".repeat(4097)).await.fails(413, "M_TOO_LARGE");
    device.put(&place, json!({"data": "x"})).await.fails(400, "M_BAD_JSON");
    device.delete(&place).await.ok();
    device.get(&place).await.fails(404, "M_NOT_FOUND");
    device.delete(&place).await.fails(404, "M_NOT_FOUND");
}
