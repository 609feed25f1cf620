//! The applications that people sign in with, as they describe themselves, and the addresses to which
//! they may be sent back with a code. An application is named by the digest of its description, so that a
//! million phones with the same one take one row.
//! spec: client-server-api#client-registration, #redirect-uri-validation

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use serde::Deserialize;
use url::{Host, Url};

use crate::{
    base::clock,
    error::{Error, Result},
    store::{Flow, Read, WriteTx, rows::ApplicationRow, tables},
};

/// Applications there are at most, and how many are forgotten at once when there are too many: of those
/// that nobody is signed in with, the ones that were registered the longest ago.
const MAX_APPLICATIONS: u64 = 10_000;
const FORGOTTEN: usize = 1000;
/// Addresses that an application may be sent back to, and bytes of each and of its name.
const MAX_REDIRECTS: usize = 20;
const MAX_TEXT: usize = 1024;
/// Another registration of the same description counts as use, if the last is so long ago.
const REFRESH: u64 = 24 * 60 * 60 * 1000;

/// An application's description of itself, as far as it means anything here.
#[derive(Clone, Debug, Deserialize)]
pub struct Metadata {
    client_uri: String,
    client_name: Option<String>,
    logo_uri: Option<String>,
    tos_uri: Option<String>,
    policy_uri: Option<String>,
    #[serde(default)]
    redirect_uris: Vec<String>,
    response_types: Option<Vec<String>>,
    grant_types: Option<Vec<String>>,
    token_endpoint_auth_method: Option<String>,
    application_type: Option<String>,
}

/// What is wrong with a description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// An address to be sent back to.
    Redirect(&'static str),
    /// Something else.
    Metadata(&'static str),
}

/// The grant by which applications without a browser sign in.
pub const DEVICE_GRANT: &str = "urn:ietf:params:oauth:grant-type:device_code";

impl Metadata {
    /// What is kept of it, if it keeps the rules.
    pub fn judge(self) -> Result<ApplicationRow, Unfit> {
        let unfit = Unfit::Metadata;
        let home = Url::parse(&self.client_uri).ok().filter(|url| url.scheme() == "https" && is_plain(url));
        let home = home.ok_or(unfit("client_uri is an https address"))?;
        let host = home.host_str().ok_or(unfit("client_uri has a host"))?.to_owned();
        if self.token_endpoint_auth_method.as_deref().is_some_and(|method| method != "none") {
            return Err(unfit("token_endpoint_auth_method can only be none"));
        }
        let native = match self.application_type.as_deref() {
            None | Some("web") => false,
            Some("native") => true,
            Some(_) => return Err(unfit("application_type is web or native")),
        };
        let has = |list: &Option<Vec<String>>, word: &str| {
            list.as_ref().is_none_or(|list| list.iter().any(|one| one == word))
        };
        let device = self.grant_types.as_ref().is_some_and(|list| list.iter().any(|one| one == DEVICE_GRANT));
        let code = has(&self.grant_types, "authorization_code") && has(&self.response_types, "code");
        if self.redirect_uris.len() > MAX_REDIRECTS || self.redirect_uris.iter().any(|uri| uri.len() > MAX_TEXT) {
            return Err(Unfit::Redirect("there are too many redirect_uris, or they are too long"));
        }
        for uri in &self.redirect_uris {
            let url = Url::parse(uri).map_err(|_| Unfit::Redirect("a redirect_uri is no address"))?;
            check_redirect(&url, &host, native)?;
        }
        match (code && self.redirect_uris.is_empty(), code || device) {
            (true, _) if !device => return Err(Unfit::Redirect("at least one redirect_uri is wanted")),
            (_, false) => return Err(unfit("grant_types holds none that this server has")),
            _ => {}
        }
        let beside = |uri: Option<String>| uri.filter(|uri| uri.len() <= MAX_TEXT && is_beside(uri, &host));
        Ok(ApplicationRow {
            name: self.client_name.map(|name| tidy(&name)).filter(|name| !name.is_empty()),
            home: self.client_uri,
            logo: beside(self.logo_uri),
            terms: beside(self.tos_uri),
            privacy: beside(self.policy_uri),
            redirects: self.redirect_uris,
            native,
            device_grant: device,
            seen: 0,
        })
    }
}

/// A name as it can be shown: one short line.
fn tidy(name: &str) -> String {
    name.chars().filter(|letter| !letter.is_control()).take(80).collect::<String>().trim().to_owned()
}

/// Whether an address names no person.
fn is_plain(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none()
}

fn is_beside(uri: &str, home: &str) -> bool {
    Url::parse(uri).is_ok_and(|url| url.scheme() == "https" && is_plain(&url) && is_below(&url, home))
}

/// Whether an address is at the host of the application or at one below it.
fn is_below(url: &Url, home: &str) -> bool {
    url.host_str().is_some_and(|host| host == home || host.strip_suffix(home).is_some_and(|rest| rest.ends_with('.')))
}

fn check_redirect(url: &Url, home: &str, native: bool) -> Result<(), Unfit> {
    let unfit = Unfit::Redirect;
    if url.fragment().is_some() {
        return Err(unfit("a redirect_uri has no fragment"));
    }
    match url.scheme() {
        "https" if is_plain(url) && is_below(url, home) => Ok(()),
        "https" => Err(unfit("a redirect_uri is at the host of client_uri or at one below it")),
        "http" if !native => Err(unfit("a redirect_uri of a web application is https")),
        "http" if is_loopback(url) && url.port().is_none() && is_plain(url) => Ok(()),
        "http" => Err(unfit("an http redirect_uri is on the loopback interface, without a port")),
        scheme if native && is_reversed(scheme, home) && !url.has_authority() => Ok(()),
        _ => Err(unfit("a redirect_uri of its own kind begins with the reversed host of client_uri, and has no host")),
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(ip)) => ip == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(ip)) => ip == std::net::Ipv6Addr::LOCALHOST,
        None => false,
    }
}

fn is_reversed(scheme: &str, home: &str) -> bool {
    let reversed = home.rsplit('.').collect::<Vec<_>>().join(".").to_ascii_lowercase();
    scheme == reversed || scheme.strip_prefix(&reversed).is_some_and(|rest| rest.starts_with('.'))
}

/// Whether an application may be sent back to an address: one that it registered, and on the loopback
/// interface at any port.
pub fn may_return_to(row: &ApplicationRow, uri: &str) -> bool {
    if row.redirects.iter().any(|known| known == uri) {
        return true;
    }
    let Ok(mut url) = Url::parse(uri) else { return false };
    let local = row.native && url.scheme() == "http" && is_loopback(&url);
    local
        && url.set_port(None).is_ok()
        && row.redirects.iter().any(|known| Url::parse(known).is_ok_and(|known| known == url))
}

/// Registers an application, or finds it registered already. Returns its ID.
pub fn register(tx: &WriteTx, row: &ApplicationRow) -> Result<String> {
    let text = serde_json::to_string(row).map_err(Error::internal)?;
    let id = URL_SAFE_NO_PAD.encode(&digest::digest(&digest::SHA256, text.as_bytes()).as_ref()[..18]);
    let now = clock::now_ms();
    match tables::APPLICATIONS.get(tx, id.as_str())? {
        Some(known) if now.saturating_sub(known.seen) < REFRESH => return Ok(id),
        Some(_) => {}
        None if tables::APPLICATIONS.len(tx)? >= MAX_APPLICATIONS => forget_unused(tx)?,
        None => {}
    }
    tables::APPLICATIONS.put(tx, id.as_str(), &ApplicationRow { seen: now, ..row.clone() })?;
    Ok(id)
}

/// An application by its ID.
pub fn find(tx: &impl Read, id: &str) -> Result<Option<ApplicationRow>> {
    tables::APPLICATIONS.get(tx, id)
}

/// Forgets applications that nobody is signed in with. It looks at all sessions, which is done once for
/// very many registrations. 503 if all are in use.
fn forget_unused(tx: &WriteTx) -> Result<()> {
    let mut used = HashSet::new();
    tables::DEVICES.scan::<(&str, &str)>(tx, .., |_, row| {
        used.extend(row.application);
        Ok(Flow::Next)
    })?;
    let mut unused = tables::APPLICATIONS.collect::<&str, _>(tx, .., |id, row| (row.seen, id.to_owned()))?;
    unused.retain(|(_, id)| !used.contains(id));
    unused.sort_unstable();
    if unused.is_empty() {
        return Err(Error::unavailable("no more applications can be registered", "all registrations are in use"));
    }
    for (_, id) in unused.into_iter().take(FORGOTTEN) {
        tables::APPLICATIONS.remove(tx, id.as_str())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judge(kind: &str, redirect: &str) -> Result<ApplicationRow, Unfit> {
        let described = json!({
            "client_uri": "https://example.com/", "application_type": kind, "redirect_uris": [redirect],
            "grant_types": ["authorization_code", "refresh_token"], "response_types": ["code"],
            "token_endpoint_auth_method": "none", "tos_uri": "https://elsewhere.org/",
        });
        serde_json::from_value::<Metadata>(described).expect("parses").judge()
    }

    #[test]
    fn redirects_are_what_the_spec_lets_them_be() {
        for good in [
            "https://example.com/callback",
            "https://app.example.com/callback",
            "https://example.com:5173/?query=value",
        ] {
            assert!(judge("web", good).is_ok(), "{good}");
        }
        for wrong in [
            "https://example.com/callback#fragment",
            "http://example.com/callback",
            "http://localhost/",
            "https://u:p@example.com/",
            "https://notexample.com/",
            "com.example:/",
        ] {
            assert!(matches!(judge("web", wrong), Err(Unfit::Redirect(_))), "{wrong}");
        }
        for good in [
            "com.example.app:/callback",
            "com.example:/",
            "com.example:callback",
            "http://localhost/callback",
            "http://127.0.0.1/callback",
            "http://[::1]/callback",
        ] {
            assert!(judge("native", good).is_ok(), "{good}");
        }
        for wrong in [
            "example:/callback",
            "com.example.app://callback",
            "https://localhost/callback",
            "http://localhost:1234/callback",
        ] {
            assert!(matches!(judge("native", wrong), Err(Unfit::Redirect(_))), "{wrong}");
        }
    }

    #[test]
    fn a_loopback_address_is_good_at_any_port_and_no_other_is() {
        let local = judge("native", "http://127.0.0.1/callback").expect("good");
        assert!(may_return_to(&local, "http://127.0.0.1:5123/callback"));
        assert!(!may_return_to(&local, "http://127.0.0.1:5123/other"));
        assert!(!may_return_to(&local, "http://127.0.0.2:5123/callback"));
        let web = judge("web", "https://example.com/callback").expect("good");
        assert!(may_return_to(&web, "https://example.com/callback"));
        assert!(!may_return_to(&web, "https://example.com:8443/callback"));
        assert_eq!(web.terms, None, "what is elsewhere is not shown as the application's");
    }

    #[test]
    fn what_this_server_has_not_is_refused() {
        let of = |more: serde_json::Value| {
            let mut all = json!({"client_uri": "https://example.com/", "redirect_uris": ["https://example.com/"]});
            all.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            serde_json::from_value::<Metadata>(all).expect("parses").judge()
        };
        assert!(of(json!({})).is_ok());
        for wrong in [
            json!({"client_uri": "http://example.com/"}),
            json!({"token_endpoint_auth_method": "client_secret_basic"}),
            json!({"application_type": "toaster"}),
            json!({"grant_types": ["implicit"]}),
            json!({"redirect_uris": []}),
        ] {
            assert!(of(wrong.clone()).is_err(), "{wrong}");
        }
        assert!(of(json!({"redirect_uris": [], "grant_types": [DEVICE_GRANT, "refresh_token"]})).is_ok());
    }
}
