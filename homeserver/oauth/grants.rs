//! Grants under way: what applications ask for, what people have allowed, and the codes that are exchanged
//! for it. In memory, as a grant takes minutes at most and begins anew after a restart; each kind is
//! bounded.
//! spec: client-server-api#grant-types

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::digest;
use ruma::{OwnedUserId, UserId};

use super::expiring::Expiring;
use crate::base::random;

/// How long somebody may take to sign in and allow it.
pub const PATIENCE: Duration = Duration::from_secs(30 * 60);
/// How long a code is good for.
const CODE_LIFE: Duration = Duration::from_secs(2 * 60);
/// How long a permission to replace one's cross-signing keys is good for.
const RESET_LIFE: Duration = Duration::from_secs(10 * 60);
/// How often an application may ask whether it was allowed, seconds.
pub const POLL_INTERVAL: u64 = 5;
/// Letters of a code that people type: none is easily taken for another, and no word comes of them.
const TYPED: &[u8; 16] = b"BCDFGHJKLMNPRSTV";

/// What an application asks for, by way of a browser.
#[derive(Clone, Debug)]
pub struct Request {
    /// The application.
    pub application: String,
    /// Where the answer goes.
    pub redirect: String,
    /// Whether the answer stands in the fragment of that address, and not in its query.
    pub fragment: bool,
    /// What the application recognises the answer by.
    pub state: Option<String>,
    /// The device that it asks for.
    pub device: String,
    /// The challenge that whoever exchanges the code has to meet.
    pub challenge: String,
}

/// What somebody allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Whom it lets act as.
    pub user: OwnedUserId,
    /// The application.
    pub application: String,
    /// As which device.
    pub device: String,
}

/// What a code can be exchanged for.
#[derive(Clone, Debug)]
enum Code {
    Fresh {
        allowed: Allowed,
        redirect: String,
        challenge: String,
    },
    /// It was exchanged. Whoever comes with it again has stolen it, or was stolen from.
    Used(Allowed),
}

/// What becomes of a code that is brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// It is good for this.
    Good(Allowed),
    /// It was used before: what it gave then should end.
    Again(Allowed),
    /// There is no such code, or whoever brings it does not meet its challenge.
    Bad,
}

/// An application without a browser of its own, that waits until somebody allows it elsewhere.
#[derive(Clone, Debug)]
struct Waiting {
    application: String,
    device: String,
    asked: Option<Instant>,
    outcome: Option<Outcome>,
}

/// What was decided about an application that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Allowed, by whom.
    Allowed(OwnedUserId),
    /// Refused.
    Denied,
}

/// What an application that waits is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Nothing is decided yet.
    Pending,
    /// It asks too often.
    TooOften,
    /// Somebody refused.
    Denied,
    /// Nobody came in time, or there is no such code.
    Expired,
    /// Somebody allowed it.
    Allowed(Allowed),
}

/// All grants under way.
pub struct Grants(Mutex<Open>);

struct Open {
    requests: Expiring<Request>,
    codes: Expiring<Code>,
    waiting: Expiring<Waiting>,
    /// From the code that people type to the one of the application.
    typed: Expiring<String>,
    resets: Expiring<()>,
}

impl Default for Grants {
    fn default() -> Self {
        Self(Mutex::new(Open {
            requests: Expiring::new(PATIENCE),
            codes: Expiring::new(CODE_LIFE),
            waiting: Expiring::new(PATIENCE),
            typed: Expiring::new(PATIENCE),
            resets: Expiring::new(RESET_LIFE),
        }))
    }
}

impl Grants {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what an application asks for, until somebody decides. The name of it goes with the page.
    pub fn ask(&self, request: Request) -> String {
        let name = random::id::<32>();
        self.open().requests.put(name.clone(), request);
        name
    }

    /// What is asked for under a name.
    pub fn asked(&self, name: &str) -> Option<Request> {
        self.open().requests.get(name).cloned()
    }

    /// Somebody refuses what was asked for.
    pub fn refuse(&self, name: &str) -> Option<Request> {
        self.open().requests.take(name)
    }

    /// Somebody allows what was asked for: the request and the code for its application. None if it was
    /// decided already.
    pub fn allow(&self, name: &str, user: OwnedUserId) -> Option<(Request, String)> {
        let mut open = self.open();
        let request = open.requests.take(name)?;
        let code = random::secret();
        let allowed = Allowed { user, application: request.application.clone(), device: request.device.clone() };
        let (redirect, challenge) = (request.redirect.clone(), request.challenge.clone());
        open.codes.put(code.clone(), Code::Fresh { allowed, redirect, challenge });
        Some((request, code))
    }

    /// Exchanges a code. It works once; an attempt that does not fit uses it up too, as nobody but the
    /// application it was meant for ever needs another.
    pub fn exchange(&self, code: &str, application: &str, redirect: &str, verifier: &str) -> Exchange {
        let mut open = self.open();
        match open.codes.take(code) {
            None => Exchange::Bad,
            Some(Code::Used(allowed)) => {
                open.codes.put(code.to_owned(), Code::Used(allowed.clone()));
                Exchange::Again(allowed)
            }
            Some(Code::Fresh { allowed, redirect: meant, challenge }) => {
                let meets = challenge_of(verifier) == challenge;
                if allowed.application != application || meant != redirect || !meets {
                    return Exchange::Bad;
                }
                open.codes.put(code.to_owned(), Code::Used(allowed.clone()));
                Exchange::Good(allowed)
            }
        }
    }

    /// An application without a browser begins to wait: its own code, and the one that people type.
    pub fn wait(&self, application: String, device: String) -> (String, String) {
        let (own, typed) = (random::secret(), typed_code());
        let mut open = self.open();
        open.waiting.put(own.clone(), Waiting { application, device, asked: None, outcome: None });
        open.typed.put(typed.clone(), own.clone());
        (own, typed)
    }

    /// The application that waits under a typed code, however it was typed.
    pub fn waiting(&self, typed: &str) -> Option<String> {
        let mut open = self.open();
        let own = open.typed.get(&tidy(typed))?.clone();
        let waiting = open.waiting.get(&own).filter(|waiting| waiting.outcome.is_none())?;
        Some(waiting.application.clone())
    }

    /// Decides about the application that waits under a typed code. False if there is none any more.
    pub fn decide(&self, typed: &str, outcome: Outcome) -> bool {
        let mut open = self.open();
        let Some(own) = open.typed.take(&tidy(typed)) else { return false };
        match open.waiting.get(&own) {
            Some(waiting) => waiting.outcome = Some(outcome),
            None => return false,
        }
        true
    }

    /// What an application that waits is told. What it was allowed it is told once.
    pub fn poll(&self, own: &str, application: &str) -> Poll {
        let mut open = self.open();
        let Some(waiting) = open.waiting.get(own).filter(|waiting| waiting.application == application) else {
            return Poll::Expired;
        };
        let interval = Duration::from_secs(POLL_INTERVAL - 1);
        match waiting.outcome.clone() {
            None if waiting.asked.is_some_and(|last| last.elapsed() < interval) => Poll::TooOften,
            None => {
                waiting.asked = Some(Instant::now());
                Poll::Pending
            }
            Some(Outcome::Denied) => {
                open.waiting.take(own);
                Poll::Denied
            }
            Some(Outcome::Allowed(user)) => {
                let allowed =
                    Allowed { user, application: waiting.application.clone(), device: waiting.device.clone() };
                open.waiting.take(own);
                Poll::Allowed(allowed)
            }
        }
    }

    /// Somebody has confirmed, by their password, that their cross-signing keys may be replaced.
    pub fn allow_reset(&self, user: &UserId) {
        self.open().resets.put(user.to_string(), ());
    }

    /// Whether somebody has confirmed that lately.
    pub fn reset_is_allowed(&self, user: &UserId) -> bool {
        self.open().resets.get(user.as_str()).is_some()
    }

    /// The keys were replaced: the next time wants another confirmation.
    pub fn reset_done(&self, user: &UserId) {
        self.open().resets.take(user.as_str());
    }
}

/// The challenge that a verifier meets. spec: RFC 7636, S256
pub fn challenge_of(verifier: &str) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, verifier.as_bytes()))
}

/// Eight letters with a dash: four thousand million codes, of which a few are good for half an hour.
fn typed_code() -> String {
    let letters = random::bytes::<8>().map(|byte| char::from(TYPED[usize::from(byte % 16)]));
    let text: String = letters.iter().collect();
    format!("{}-{}", &text[..4], &text[4..])
}

/// A typed code as it is kept.
fn tidy(typed: &str) -> String {
    let letters: String = typed.chars().filter(char::is_ascii_alphanumeric).take(9).collect();
    let letters = letters.to_ascii_uppercase();
    match letters.split_at_checked(4) {
        Some((front, back)) => format!("{front}-{back}"),
        None => letters,
    }
}

#[cfg(test)]
mod tests {
    use ruma::user_id;

    use super::*;

    fn request() -> Request {
        Request {
            application: "app".into(),
            redirect: "https://a.b/".into(),
            fragment: true,
            state: None,
            device: "ABCDEFGHIJ".into(),
            challenge: challenge_of("a verifier"),
        }
    }

    #[test]
    fn a_code_is_good_once_and_for_who_asked() {
        let grants = Grants::default();
        let alice = user_id!("@alice:b.c");
        let allow = || {
            let name = grants.ask(request());
            grants.allow(&name, alice.to_owned()).expect("asked").1
        };
        for (app, redirect, verifier) in [
            ("other", "https://a.b/", "a verifier"),
            ("app", "https://a.c/", "a verifier"),
            ("app", "https://a.b/", "x"),
        ] {
            let code = allow();
            assert_eq!(grants.exchange(&code, app, redirect, verifier), Exchange::Bad);
            assert_eq!(grants.exchange(&code, "app", "https://a.b/", "a verifier"), Exchange::Bad, "it is used up");
        }
        let code = allow();
        let allowed = Allowed { user: alice.to_owned(), application: "app".into(), device: "ABCDEFGHIJ".into() };
        assert_eq!(grants.exchange(&code, "app", "https://a.b/", "a verifier"), Exchange::Good(allowed.clone()));
        assert_eq!(grants.exchange(&code, "app", "https://a.b/", "a verifier"), Exchange::Again(allowed));
        let name = grants.ask(request());
        assert!(grants.refuse(&name).is_some() && grants.allow(&name, alice.to_owned()).is_none());
    }

    #[test]
    fn who_waits_is_told_once_and_not_too_often() {
        let grants = Grants::default();
        let (own, typed) = grants.wait("app".into(), "ABCDEFGHIJ".into());
        assert_eq!(grants.poll(&own, "app"), Poll::Pending);
        assert_eq!(grants.poll(&own, "app"), Poll::TooOften);
        assert_eq!(grants.poll(&own, "other"), Poll::Expired);
        let as_typed = typed.to_ascii_lowercase().replace('-', " ");
        assert_eq!(grants.waiting(&as_typed).as_deref(), Some("app"));
        assert!(grants.decide(&as_typed, Outcome::Allowed(user_id!("@alice:b.c").to_owned())));
        assert!(!grants.decide(&typed, Outcome::Denied), "it is decided");
        assert!(matches!(grants.poll(&own, "app"), Poll::Allowed(_)));
        assert_eq!(grants.poll(&own, "app"), Poll::Expired);
        let (own, typed) = grants.wait("app".into(), "ABCDEFGHIJ".into());
        assert!(grants.decide(&typed, Outcome::Denied));
        assert_eq!(grants.poll(&own, "app"), Poll::Denied);
        assert_eq!(grants.waiting("BCDF"), None);
    }

    #[test]
    fn the_challenge_is_that_of_the_rfc() {
        let verifier = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
        assert_eq!(challenge_of(verifier), "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
    }
}
