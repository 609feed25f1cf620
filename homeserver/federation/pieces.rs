//! What another server has handed over of a room's state, taken in by pieces: while one is written the next one is
//! judged, and the signatures of those after it are checked. So all processors have work, and few events are held in
//! more than their text.
//!
//! ```text
//!  text, the least deep first ─► signatures ─► judged ─► written
//!                                                 │ cites what is being written
//!                                                 └► waits until all else is written
//! ```

use std::pin::Pin;

use serde_json::value::RawValue;

use super::Federation;
use crate::{
    error::{Error, Result},
    rooms::joining::{Judge, Judged, Told},
};

/// Events of a piece, about: what one job of the writer takes.
const PIECE: usize = 320;

/// A piece being written.
pub(super) type Writing<'a> = Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>>;

/// What was handed over.
pub(super) struct Handed {
    /// The events of the state.
    pub state: Vec<Box<RawValue>>,
    /// What allows them.
    pub auth_chain: Vec<Box<RawValue>>,
    /// Whether memberships are left out of the state.
    pub members_omitted: bool,
}

impl Federation {
    /// Checks and judges all of it, and has it written but for the last piece: whatever fits into one is not written
    /// here at all. 502 if it is not the state of the room; some of it may have been written then.
    pub(super) async fn take_in_pieces<'a>(
        &self,
        handed: Handed,
        mut judge: Judge,
        write: impl Fn(Vec<Told>) -> Writing<'a>,
    ) -> Result<(Judged, Vec<Told>)> {
        let Handed { state, auth_chain, members_omitted } = handed;
        let mut checking = self.checker.begin([state, auth_chain], judge.rules()).await?;
        let mut ready = Vec::new();
        while !checking.is_over() {
            let judging = async {
                let some = checking.some(PIECE).await?;
                let piece = some.into_iter().map(|(list, event)| Told { event, in_state: list == 0 }).collect();
                self.judge(judge, |judge, tx| judge.piece(tx, piece)).await
            };
            let (written, judged) = tokio::join!(written(ready, &write), judging);
            written?;
            (judge, ready) = judged?;
        }
        if judge.is_waiting() {
            written(ready, &write).await?;
            (judge, ready) = self.judge(judge, |judge, tx| judge.rest(tx)).await?;
        }
        let store = self.store.clone();
        let finishing = move || store.read(|tx| judge.finish(tx, members_omitted));
        Ok((tokio::task::spawn_blocking(finishing).await.map_err(Error::internal)??, ready))
    }

    /// Judges something away from where requests are answered.
    async fn judge(
        &self,
        mut judge: Judge,
        work: impl FnOnce(&mut Judge, &crate::store::ReadTx) -> Result<Vec<Told>> + Send + 'static,
    ) -> Result<(Judge, Vec<Told>)> {
        let store = self.store.clone();
        let judging = move || store.read(|tx| work(&mut judge, tx)).map(|piece| (judge, piece));
        tokio::task::spawn_blocking(judging).await.map_err(Error::internal)?
    }
}

async fn written<'a>(piece: Vec<Told>, write: &impl Fn(Vec<Told>) -> Writing<'a>) -> Result<()> {
    if piece.is_empty() { Ok(()) } else { write(piece).await }
}
