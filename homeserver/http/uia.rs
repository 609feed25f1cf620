//! Asking for proof before an operation: the part of user-interactive authentication that checks
//! passwords and tokens. What the sessions are is `accounts/uia.rs`.
//! spec: client-server-api#user-interactive-authentication-api

use super::{Guarded, Session, passwords};
use crate::{
    accounts::{
        registration,
        uia::{self, Attempt, Auth, BY_PASSWORD, Flow, Progress, Stage},
        users,
    },
    app::App,
    error::{Error, Result},
};

/// Where somebody confirms that their cross-signing keys may be replaced, seen from the server's address.
pub const RESET_PAGE: &str = "/oauth/account?action=org.matrix.cross_signing_reset";

/// Goes on only if the owner of the session has proved, for exactly this request, that they know the
/// account's password. Otherwise the error says what to do. An application service has nothing to prove for its
/// people. spec: application-service-api#device-management
pub async fn require<R>(app: &App, session: &Session, request: &Guarded<R>) -> Result<()> {
    match session.service {
        Some(_) => Ok(()),
        None => prove(app, Some(session), request, BY_PASSWORD).await.map(drop),
    }
}

/// Goes on only if the stages of one flow have been done for exactly this request, by the session's
/// owner or, while registering, by whoever asks.
///
/// 1. Without `auth` a session begins.
/// 2. With the ID of a session that is not for this request, one begins too and nothing is checked.
/// 3. The stage that is tried is checked; if it fails, the client may try again.
/// 4. The request goes on once a flow is complete, and its session has served.
pub async fn prove<R>(
    app: &App,
    session: Option<&Session>,
    request: &Guarded<R>,
    flows: &'static [Flow],
) -> Result<Progress> {
    let caller = session.map(|session| (session.user.as_str(), session.device.as_str()));
    let bound = app.uia.bind(caller, &request.operation);
    let begin = || (app.uia.begin(bound), Progress::default());
    let page = format!("{}{RESET_PAGE}", app.config.base_url());
    let challenge = |id: &str, progress: &Progress| Error::uia(uia::challenge(flows, id, progress, &page));
    let Some(auth) = &request.auth else {
        let (id, progress) = begin();
        return Err(challenge(&id, &progress));
    };
    let known = auth.session.as_ref().map(|id| app.uia.progress(id, bound).map(|progress| (id.clone(), progress)));
    let (id, mut progress) = match known {
        Some(Some(known)) => known,
        Some(None) => {
            let (id, progress) = begin();
            return Err(challenge(&id, &progress)
                .because("M_FORBIDDEN", "this authentication session has ended or is for something else"));
        }
        None => begin(),
    };
    if let Err(error) = attempt(app, session, auth, flows, &mut progress).await {
        if error.status() != http::StatusCode::FORBIDDEN {
            return Err(error);
        }
        return Err(challenge(&id, &progress).because("M_FORBIDDEN", error.message().to_owned()));
    }
    if progress.satisfies(flows) {
        app.uia.end(&id);
        return Ok(progress);
    }
    app.uia.advance(&id, &progress);
    Err(challenge(&id, &progress))
}

async fn attempt(
    app: &App,
    session: Option<&Session>,
    auth: &Auth,
    flows: &[Flow],
    progress: &mut Progress,
) -> Result<()> {
    let Some(attempt) = &auth.attempt else {
        // What was confirmed on a page is done without saying more.
        if session.is_some_and(|session| app.grants.reset_is_allowed(&session.user)) {
            progress.completed.push(Stage::OAuth);
        }
        return Ok(());
    };
    let offered = attempt.stage().filter(|stage| flows.iter().any(|flow| flow.contains(stage)));
    let stage = offered.ok_or_else(|| Error::forbidden("this stage is in none of the flows"))?;
    match attempt {
        Attempt::Dummy | Attempt::Unknown => {}
        Attempt::Password { name, password } => {
            // Only the owner's password is looked at: this is no place to try those of others.
            let meant = name.as_ref().and_then(|name| users::meant(name, &app.me.name));
            if meant.is_none() || meant.as_ref() != session.map(|session| &session.user) {
                return Err(Error::forbidden("this stage wants your own name and password"));
            }
            passwords::prove(app, name.as_deref(), password.clone(), passwords::By::Owner).await?;
        }
        Attempt::RegistrationToken(token) => {
            let policy = registration::policy(&app.config);
            if !app.store.read(|tx| registration::token_is_valid(tx, policy, token))? {
                return Err(Error::forbidden("this registration token is not valid"));
            }
            progress.registration_token = Some(token.clone());
        }
    }
    if !progress.completed.contains(&stage) {
        progress.completed.push(stage);
    }
    Ok(())
}
