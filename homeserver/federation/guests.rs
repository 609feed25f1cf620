//! Sees guests out of rooms that no longer let them in: behind the commits, one at a time, so that nobody
//! waits for it. Which rooms those are is in the store, so nothing is lost when the server ends.

use std::time::Duration;

use super::Federation;
use crate::{error::Result, rooms::guests};

/// How often it is looked whether there is something to do.
const EVERY: Duration = Duration::from_secs(1);

impl Federation {
    /// Does so for as long as it is polled.
    pub(super) async fn see_guests_out(&self) {
        loop {
            match self.see_guest_out().await {
                Ok(true) => continue,
                Ok(false) => {}
                // It goes on from the same place; what is wrong is logged where it went wrong.
                Err(error) => tracing::debug!(%error, "guests can't be seen out"),
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Sees one guest out. False if there is none.
    async fn see_guest_out(&self) -> Result<bool> {
        let Some(room) = self.store.read(guests::leaving)? else { return Ok(false) };
        let me = self.me.clone();
        match self.write_unasked(move |tx| guests::see_out(tx, &me, room)).await {
            Err(error) if error.cause().is_none() => {
                tracing::warn!(%error, room, "a guest can't leave a room");
                self.store.write(move |tx| guests::give_up(tx, room)).await?;
            }
            seen => seen?,
        }
        Ok(true)
    }
}
