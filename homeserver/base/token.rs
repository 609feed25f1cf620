//! Sync tokens: where a client's knowledge ends. Text outside, numbers inside.

use std::{fmt, str::FromStr};

use super::Pos;
use crate::error::Error;

/// `s<pos>_<ephemeral>`, and behind it `_<to_device>` while to-device messages lag behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SyncToken {
    /// Everything that is kept on disk was told up to here.
    pub pos: Pos,
    /// Typing and presence, which live in memory and have their own order, were told up to here.
    pub ephemeral: u64,
    /// To-device messages were told up to here. It is less than `pos` only while more of them wait
    /// than one answer takes: the next request acknowledges what was delivered, and nothing else.
    pub to_device: Pos,
}

impl SyncToken {
    /// The token of somebody who has been told everything.
    pub fn new(pos: Pos, ephemeral: u64) -> Self {
        Self { pos, ephemeral, to_device: pos }
    }
}

impl fmt::Display for SyncToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pos, ephemeral, to_device } = self;
        write!(out, "s{pos}_{ephemeral}")?;
        match to_device == pos {
            true => Ok(()),
            false => write!(out, "_{to_device}"),
        }
    }
}

impl FromStr for SyncToken {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        parse(text).ok_or_else(|| Error::invalid_param("this is not a sync token of this server"))
    }
}

fn parse(text: &str) -> Option<SyncToken> {
    let (pos, rest) = text.strip_prefix('s')?.split_once('_')?;
    let (ephemeral, to_device) = rest.split_once('_').unwrap_or((rest, pos));
    let (pos, ephemeral, to_device) = (number(pos)?, number(ephemeral)?, number(to_device)?);
    (to_device <= pos).then_some(SyncToken { pos, ephemeral, to_device })
}

/// Digits only: `parse` alone would take a leading plus.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tokens_come_back_as_they_were(pos: u64, ephemeral: u64, lag: u64) {
            let token = SyncToken { pos, ephemeral, to_device: pos.saturating_sub(lag) };
            prop_assert_eq!(token.to_string().parse::<SyncToken>().expect("parses"), token);
        }

        #[test]
        fn other_text_is_refused_without_panic(text in "[s0-9_+-]{0,12}") {
            if let Ok(token) = text.parse::<SyncToken>() {
                prop_assert_eq!(token.to_string().parse::<SyncToken>().expect("parses"), token);
                prop_assert!(token.to_device <= token.pos);
            }
        }
    }

    #[test]
    fn tokens_look_as_the_design_says() {
        assert_eq!(SyncToken::new(7, 3).to_string(), "s7_3");
        assert_eq!(SyncToken { pos: 7, ephemeral: 3, to_device: 5 }.to_string(), "s7_3_5");
        for bad in ["", "s7", "7_3", "s7_", "s_3", "s7_3_8", "s7_3_5_1", "s+7_3", "s99999999999999999999_1"] {
            assert_eq!(bad.parse::<SyncToken>().expect_err("no token").errcode(), "M_INVALID_PARAM", "{bad}");
        }
    }
}
