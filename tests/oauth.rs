//! Signing in by OAuth, as an application and a browser go through it: pages, codes, tokens, and their end.

use std::collections::HashMap;

use reqwest::{Method, header, redirect::Policy};
use serde_json::{Value, json};

use crate::common::{Answer, Server, User, encode};

const VERIFIER: &str = "a-verifier-of-more-than-forty-three-characters-as-the-rfc-wants";
const REDIRECT: &str = "https://app.example.com/callback?kept=1";
const SCOPE: &str = "urn:matrix:client:api:* urn:matrix:client:device:LAPTOP1234";

async fn server() -> Server {
    Server::start_with("registration = \"open\"\nrate_limits = false\noauth = true\n").await
}

/// A browser: it follows no redirect by itself, and reads pages.
struct Browser {
    http: reqwest::Client,
    url: String,
}

/// A page, or where the browser is sent.
struct Page {
    status: u16,
    text: String,
    sent_to: Option<String>,
}

impl Page {
    /// What a hidden field of the page holds.
    fn hidden(&self, name: &str) -> String {
        let from =
            self.text.find(&format!("name=\"{name}\" value=\"")).unwrap_or_else(|| panic!("no {name}: {}", self.text));
        self.text[from..].split('"').nth(3).expect("a value").to_owned()
    }

    /// The answer that goes back to the application, from the fragment or the query of where it is sent.
    fn answer(&self) -> HashMap<String, String> {
        let url = url::Url::parse(self.sent_to.as_deref().expect("sent back")).expect("an address");
        let pairs = url.fragment().unwrap_or_else(|| url.query().expect("an answer")).to_owned();
        url::form_urlencoded::parse(pairs.as_bytes()).into_owned().collect()
    }
}

impl Browser {
    fn new(server: &Server) -> Self {
        let http = reqwest::Client::builder().redirect(Policy::none()).build().expect("a client");
        Self { http, url: server.url.clone() }
    }

    async fn page(&self, request: reqwest::RequestBuilder) -> Page {
        let answer = request.send().await.expect("answers");
        let sent_to = answer.headers().get(header::LOCATION).map(|place| place.to_str().expect("text").to_owned());
        let guarded = answer.headers().get(header::CONTENT_SECURITY_POLICY).is_some();
        let status = answer.status().as_u16();
        assert!(sent_to.is_some() || guarded, "a page has a policy");
        Page { status, sent_to, text: answer.text().await.expect("text") }
    }

    async fn open(&self, path: &str) -> Page {
        self.page(self.http.get(format!("{}{path}", self.url))).await
    }

    async fn submit(&self, path: &str, fields: &[(&str, &str)]) -> Page {
        self.page(self.http.post(format!("{}{path}", self.url)).body(form(fields))).await
    }

    /// Goes to where an application sends people, and signs in there.
    async fn allow(&self, client: &str, name: &str, more: &str) -> Page {
        let page = self.open(&authorize(client, REDIRECT, more)).await;
        let request = page.hidden("request");
        let password = Server::password(name);
        let fields = [("request", request.as_str()), ("name", name), ("password", &password), ("decision", "allow")];
        self.submit("/oauth/authorize", &fields).await
    }
}

fn form(fields: &[(&str, &str)]) -> String {
    let pair = |(name, value): &(&str, &str)| format!("{name}={}", encode(value));
    fields.iter().map(pair).collect::<Vec<_>>().join("&")
}

fn authorize(client: &str, redirect: &str, more: &str) -> String {
    let challenge = hearth::oauth::grants::challenge_of(VERIFIER);
    let fields = [
        ("client_id", client),
        ("redirect_uri", redirect),
        ("response_type", "code"),
        ("scope", SCOPE),
        ("state", "a state"),
        ("code_challenge", challenge.as_str()),
        ("code_challenge_method", "S256"),
    ];
    format!("/oauth/authorize?{}{more}", form(&fields))
}

async fn post(server: &Server, path: &str, fields: &[(&str, &str)]) -> Answer {
    let guest = server.guest();
    let request = guest.http.request(Method::POST, format!("{}{path}", server.url)).body(form(fields));
    guest.send_request(request).await
}

async fn register(server: &Server, more: Value) -> Answer {
    let mut described = json!({
        "client_name": "An <App>", "client_uri": "https://example.com/", "redirect_uris": [REDIRECT],
        "response_types": ["code"], "grant_types": ["authorization_code", "refresh_token"],
        "token_endpoint_auth_method": "none", "application_type": "web",
    });
    described.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    server.guest().post("/oauth/register", described).await
}

async fn registered(server: &Server, more: Value) -> String {
    let answer = register(server, more).await;
    assert_eq!(answer.status, 201, "{}", answer.body);
    answer.body["client_id"].as_str().expect("an ID").to_owned()
}

async fn exchange(server: &Server, client: &str, code: &str) -> Answer {
    let fields = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", REDIRECT),
        ("client_id", client),
        ("code_verifier", VERIFIER),
    ];
    post(server, "/oauth/token", &fields).await
}

fn session(server: &Server, tokens: &Value) -> User {
    User { token: tokens["access_token"].as_str().map(str::to_owned), ..server.guest() }
}

async fn whoami(user: &User) -> Answer {
    user.get("/_matrix/client/v3/account/whoami").await
}

#[tokio::test]
async fn an_application_signs_somebody_in_refreshes_and_signs_out() {
    let server = server().await;
    server.register("alice").await;
    let described = server.guest().get("/_matrix/client/v1/auth_metadata").await.ok();
    assert_eq!(described["authorization_endpoint"], format!("{}/oauth/authorize", server.url));
    let client = registered(&server, json!({})).await;
    assert_eq!(registered(&server, json!({})).await, client, "the same description is the same application");
    let browser = Browser::new(&server);
    let page = browser.open(&authorize(&client, REDIRECT, "&response_mode=fragment")).await;
    assert!(page.text.contains("An &lt;App&gt; (example.com)") && !page.text.contains("<App>"), "{}", page.text);
    let sent = browser.allow(&client, "alice", "&response_mode=fragment").await;
    assert!(sent.sent_to.as_ref().expect("sent back").starts_with("https://app.example.com/callback?kept=1#"));
    let answer = sent.answer();
    assert_eq!(answer["state"], "a state");

    let tokens = exchange(&server, &client, &answer["code"]).await;
    assert_eq!(tokens.headers[header::CACHE_CONTROL], "no-store");
    let tokens = tokens.ok();
    assert_eq!((&tokens["token_type"], &tokens["scope"]), (&json!("Bearer"), &json!(SCOPE)));
    let me = whoami(&session(&server, &tokens)).await.ok();
    assert_eq!((&me["user_id"], &me["device_id"]), (&json!("@alice:localhost"), &json!("LAPTOP1234")));
    let refresh = |token: &Value, client: &str| {
        let (token, client) = (token.as_str().expect("a token").to_owned(), client.to_owned());
        let server = &server;
        async move {
            let fields = [("grant_type", "refresh_token"), ("refresh_token", &*token), ("client_id", &*client)];
            post(server, "/oauth/token", &fields).await
        }
    };
    assert_eq!(refresh(&tokens["refresh_token"], "another").await.body["error"], "invalid_grant");
    let renewed = refresh(&tokens["refresh_token"], &client).await.ok();
    whoami(&session(&server, &renewed)).await.ok();
    whoami(&session(&server, &tokens)).await.fails(401, "M_UNKNOWN_TOKEN");
    let revoked =
        post(&server, "/oauth/revoke", &[("token", renewed["refresh_token"].as_str().expect("a token"))]).await;
    assert_eq!(revoked.status, 200);
    whoami(&session(&server, &renewed)).await.fails(401, "M_UNKNOWN_TOKEN");
    assert_eq!(post(&server, "/oauth/revoke", &[("token", "unknown")]).await.status, 200);
}

#[tokio::test]
async fn a_code_that_comes_twice_ends_what_it_began() {
    let server = server().await;
    server.register("alice").await;
    let client = registered(&server, json!({})).await;
    let code = Browser::new(&server).allow(&client, "alice", "").await.answer()["code"].clone();
    let tokens = exchange(&server, &client, &code).await.ok();
    whoami(&session(&server, &tokens)).await.ok();
    assert_eq!(exchange(&server, &client, &code).await.body["error"], "invalid_grant");
    whoami(&session(&server, &tokens)).await.fails(401, "M_UNKNOWN_TOKEN");
}

#[tokio::test]
async fn who_refuses_or_mistypes_gives_nothing_away() {
    let server = server().await;
    server.register("alice").await;
    let client = registered(&server, json!({})).await;
    let browser = Browser::new(&server);
    let page = browser.open(&authorize(&client, REDIRECT, "")).await;
    let request = page.hidden("request");
    let wrong = [("request", &*request), ("name", "alice"), ("password", "wrong"), ("decision", "allow")];
    let page = browser.submit("/oauth/authorize", &wrong).await;
    assert_eq!((page.status, page.text.contains("The name or the password is wrong.")), (403, true));
    let sent = browser.submit("/oauth/authorize", &[("request", &request), ("decision", "cancel")]).await;
    assert_eq!(sent.answer()["error"], "access_denied");
    let late = browser.submit("/oauth/authorize", &wrong).await;
    assert!(late.status == 400 && late.text.contains("This page has ended"), "{}", late.text);

    // What can't be trusted is shown to the person, and sent nowhere.
    for (client, redirect) in [(&*client, "https://evil.example.org/"), ("nobody", REDIRECT)] {
        let page = browser.open(&authorize(client, redirect, "")).await;
        assert_eq!((page.status, page.sent_to), (400, None));
    }
    for (more, error) in [("&response_type=token", "unsupported_response_type"), ("&scope=openid", "invalid_scope")] {
        assert_eq!(browser.open(&authorize(&client, REDIRECT, more)).await.answer()["error"], error);
    }
    let http = register(&server, json!({"redirect_uris": ["http://example.com/"]})).await;
    assert_eq!((http.status, &http.body["error"]), (400, &json!("invalid_redirect_uri")));
}

#[tokio::test]
async fn somebody_makes_an_account_on_the_way() {
    let server = server().await;
    let client = registered(&server, json!({})).await;
    let browser = Browser::new(&server);
    let page = browser.open(&authorize(&client, REDIRECT, "&prompt=create")).await;
    assert_eq!(page.hidden("create"), "1");
    let request = page.hidden("request");
    let fields = |password| {
        [("request", &*request), ("create", "1"), ("name", "newcomer"), ("password", password), ("decision", "allow")]
    };
    let weak = browser.submit("/oauth/authorize", &fields("short")).await;
    assert!(weak.status == 403 && weak.text.contains("8 characters"), "{}", weak.text);
    let sent = browser.submit("/oauth/authorize", &fields("long enough")).await;
    let tokens = exchange(&server, &client, &sent.answer()["code"]).await.ok();
    assert_eq!(whoami(&session(&server, &tokens)).await.ok()["user_id"], "@newcomer:localhost");
}

#[tokio::test]
async fn a_device_without_a_browser_is_linked_by_a_code() {
    let server = server().await;
    server.register("alice").await;
    let grant = "urn:ietf:params:oauth:grant-type:device_code";
    let client = registered(&server, json!({"grant_types": [grant, "refresh_token"], "redirect_uris": []})).await;
    let begun = post(&server, "/oauth/device", &[("client_id", &client), ("scope", SCOPE)]).await.ok();
    let own = begun["device_code"].as_str().expect("a code");
    let poll = async || {
        post(&server, "/oauth/token", &[("grant_type", grant), ("device_code", own), ("client_id", &client)]).await
    };
    assert_eq!(poll().await.body["error"], "authorization_pending");
    assert_eq!(poll().await.body["error"], "slow_down");

    let browser = Browser::new(&server);
    assert_eq!(browser.open("/oauth/link?user_code=BCDF-BCDF").await.status, 404);
    let typed = begun["user_code"].as_str().expect("a code").to_ascii_lowercase();
    let page = browser.submit("/oauth/link", &[("user_code", &typed), ("decision", "allow")]).await;
    assert!(page.text.contains("Go on only if you began this yourself"), "{}", page.text);
    let password = Server::password("alice");
    let fields = [("user_code", &*typed), ("name", "alice"), ("password", &password), ("decision", "allow")];
    assert!(browser.submit("/oauth/link", &fields).await.text.contains("Go on at your other device"));
    let tokens = poll().await.ok();
    assert_eq!(whoami(&session(&server, &tokens)).await.ok()["user_id"], "@alice:localhost");
    assert_eq!(poll().await.body["error"], "expired_token");
}

#[tokio::test]
async fn without_the_switch_there_is_no_oauth() {
    let server = Server::start().await;
    for path in ["/_matrix/client/v1/auth_metadata", "/oauth/authorize", "/oauth/account"] {
        server.guest().get(path).await.fails(404, "M_UNRECOGNIZED");
    }
    server.guest().post("/oauth/register", json!({"client_uri": "https://a.b/"})).await.fails(404, "M_UNRECOGNIZED");
}
