//! What one device hands another so that it can sign in: a token that is good once, and a place where both can
//! leave word. In memory alone and for minutes: what is lost is begun anew.
//! spec: client-server-api#post_matrixclientv1loginget_token, MSC4388 and before it MSC4108

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use ruma::{OwnedDeviceId, OwnedUserId};

use super::expiring::Expiring;
use crate::{
    base::random,
    error::{Error, Result},
};

/// How long a token is good.
pub const TOKEN_LIFE: Duration = Duration::from_secs(120);
/// How long a place is there.
pub const PLACE_LIFE: Duration = Duration::from_secs(300);
/// Places at once at most; beyond it the oldest goes.
const MAX_PLACES: usize = 1000;
/// Bytes of what is left there at most.
pub const MAX_WORD: usize = 4096;

/// Who is handed what.
pub struct Handing {
    tokens: Mutex<Expiring<(OwnedUserId, OwnedDeviceId)>>,
    places: Mutex<Expiring<Place>>,
}

/// A place where two devices leave word for each other.
#[derive(Clone)]
pub struct Place {
    /// What was left last.
    pub word: String,
    /// A name for it, another one for each word.
    pub mark: String,
    /// When the place is gone.
    pub ends: Instant,
}

impl Default for Handing {
    fn default() -> Self {
        Self { tokens: Mutex::new(Expiring::new(TOKEN_LIFE)), places: Mutex::new(Expiring::of(MAX_PLACES, PLACE_LIFE)) }
    }
}

impl Handing {
    /// A token by which another device may sign in, as long as this one is signed in.
    pub fn token(&self, user: OwnedUserId, device: OwnedDeviceId) -> String {
        let token = random::secret();
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).put(token.clone(), (user, device));
        token
    }

    /// Whose token it is and which device had it made. It is good no more.
    pub fn redeem(&self, token: &str) -> Option<(OwnedUserId, OwnedDeviceId)> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).take(token)
    }

    /// Makes a place, and says its name.
    pub fn open(&self, word: String) -> Result<(String, Place)> {
        check(&word)?;
        let (name, place) =
            (random::secret(), Place { word, mark: random::id::<22>(), ends: Instant::now() + PLACE_LIFE });
        self.places.lock().unwrap_or_else(PoisonError::into_inner).put(name.clone(), place.clone());
        Ok((name, place))
    }

    /// What is at a place. 404 if it is gone.
    pub fn look(&self, name: &str) -> Result<Place> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.get(name).cloned().ok_or_else(gone)
    }

    /// Leaves word at a place for who has seen the last one. None if that was not the last one; but the same
    /// word again is the same.
    pub fn leave(&self, name: &str, seen: &str, word: String) -> Result<Option<Place>> {
        check(&word)?;
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        let place = places.get(name).ok_or_else(gone)?;
        if place.mark == seen {
            (place.word, place.mark) = (word, random::id::<22>());
        } else if place.word != word {
            return Ok(None);
        }
        Ok(Some(place.clone()))
    }

    /// Takes a place away. 404 if it is gone.
    pub fn close(&self, name: &str) -> Result<()> {
        let mut places = self.places.lock().unwrap_or_else(PoisonError::into_inner);
        places.take(name).map(drop).ok_or_else(gone)
    }
}

fn check(word: &str) -> Result<()> {
    match word.len() > MAX_WORD {
        true => Err(Error::too_large(format!("at most {MAX_WORD} bytes are left here"))),
        false => Ok(()),
    }
}

fn gone() -> Error {
    Error::not_found("nobody meets here, or not any more")
}
