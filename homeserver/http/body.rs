//! Reading request bodies that are held whole, within bounds: for each body, and for all of them
//! together. Knows nothing of what is in them.

use std::{sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    error::{Error, Result},
    limits::Bodies,
};

/// Whose body it is, which decides what it may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// Somebody's who has not said who they are.
    Stranger,
    /// An account's.
    Account,
    /// Another server's, whose key is known.
    Server,
}

impl Whose {
    /// Bytes at most. An account's is JSON with room for 200 events of the greatest size, and a server's for
    /// a transaction with 50 of them and 100 pieces of other data.
    pub fn max(self) -> usize {
        match self {
            Self::Stranger => 65_536,
            Self::Account | Self::Server => 200 * 65_536,
        }
    }

    /// It has to arrive within this time.
    fn patience(self) -> Duration {
        match self {
            Self::Stranger => Duration::from_secs(20),
            Self::Account | Self::Server => Duration::from_secs(60),
        }
    }

    fn budget(self, bodies: &Bodies) -> &Arc<Semaphore> {
        match self {
            Self::Stranger => &bodies.strangers,
            Self::Account => &bodies.accounts,
            Self::Server => &bodies.servers,
        }
    }
}

/// What a body takes of the memory for all bodies, until it is dropped.
pub type Share = Option<OwnedSemaphorePermit>;

/// Reads a whole body, refusing it as soon as it is known to be too long, or when there is no memory
/// left for the bodies of all.
pub async fn collect<B>(body: B, whose: Whose, bodies: &Bodies) -> Result<(Bytes, Share)>
where
    B: Body<Data = Bytes> + Unpin,
{
    if body.size_hint().lower() > whose.max() as u64 {
        return Err(too_large(whose));
    }
    let reading = tokio::time::timeout(whose.patience(), read(body, whose, bodies));
    reading.await.unwrap_or_else(|_| Err(Error::unknown("the body did not arrive in time")))
}

/// Takes a share for each piece as it comes: what is only announced takes nothing from others.
async fn read<B>(mut body: B, whose: Whose, bodies: &Bodies) -> Result<(Bytes, Share)>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut held, mut share) = (BytesMut::new(), Share::None);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Error::unknown("the body could not be read"))?;
        let Ok(piece) = frame.into_data() else { continue };
        if held.len() + piece.len() > whose.max() {
            return Err(too_large(whose));
        }
        let size = u32::try_from(piece.len()).map_err(|_| too_large(whose))?;
        let more = whose.budget(bodies).clone().try_acquire_many_owned(size);
        let more = more.map_err(|_| Error::limited(Duration::from_secs(2)))?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        held.extend_from_slice(&piece);
    }
    Ok((held.freeze(), share))
}

fn too_large(whose: Whose) -> Error {
    Error::too_large(format!("the body is larger than {} bytes", whose.max()))
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;

    use super::*;

    fn of(size: usize) -> Full<Bytes> {
        Full::new(vec![b' '; size].into())
    }

    #[tokio::test]
    async fn a_stranger_may_send_less_than_an_account() {
        let bodies = Bodies::default();
        collect(of(65_536), Whose::Stranger, &bodies).await.expect("small");
        let error = collect(of(65_537), Whose::Stranger, &bodies).await.expect_err("too large");
        assert_eq!(error.errcode(), "M_TOO_LARGE");
        collect(of(65_537), Whose::Account, &bodies).await.expect("an account may");
    }

    #[tokio::test]
    async fn bodies_together_are_bounded_and_give_back_what_they_took() {
        let bodies = Bodies::default();
        let mut held = Vec::new();
        let error = loop {
            match collect(of(65_536), Whose::Stranger, &bodies).await {
                Ok(body) => held.push(body),
                Err(error) => break error,
            }
            assert!(held.len() < 100_000, "there is no bound");
        };
        assert_eq!(error.errcode(), "M_LIMIT_EXCEEDED");
        collect(of(65_536), Whose::Account, &bodies).await.expect("accounts have memory of their own");
        held.pop();
        collect(of(65_536), Whose::Stranger, &bodies).await.expect("there is room again");
    }
}
