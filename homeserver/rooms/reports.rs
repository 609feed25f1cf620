//! What people report to those who run the server. spec: client-server-api#reporting-content

use crate::{
    base::{Pos, clock},
    error::{Error, Result},
    store::{Flow, Read, WriteTx, rows::ReportRow, tables},
};

/// Reports that are kept; beyond it the oldest go.
const MAX_REPORTS: u64 = 100_000;
/// Bytes of a reason at most.
const MAX_REASON: usize = 4096;

/// A report that somebody makes.
pub struct Report {
    /// Who.
    pub reporter: String,
    /// Why.
    pub reason: String,
    /// The room that it is about or that the event is in.
    pub room: Option<String>,
    /// The event.
    pub event: Option<String>,
    /// The person that it is about or that sent the event.
    pub user: Option<String>,
}

/// Keeps a report. 400 if it has too much to say.
pub fn add(tx: &WriteTx, report: &Report) -> Result<()> {
    if report.reason.len() > MAX_REASON {
        return Err(Error::invalid_param(format!("a reason has at most {MAX_REASON} bytes")));
    }
    if tables::REPORTS.len(tx)? >= MAX_REPORTS {
        let mut oldest = None;
        tables::REPORTS.scan::<Pos>(tx, .., |id, _| {
            oldest = Some(id);
            Ok(Flow::Stop)
        })?;
        if let Some(oldest) = oldest {
            tables::REPORTS.remove(tx, oldest)?;
        }
    }
    let row = ReportRow {
        reporter: report.reporter.clone(),
        reason: report.reason.clone(),
        at: clock::now_ms(),
        room: report.room.clone(),
        event: report.event.clone(),
        user: report.user.clone(),
    };
    tables::REPORTS.put(tx, tx.next_pos(), &row)
}

/// Those reports that `keep` keeps, from the newest or the oldest on: a page of them, and how many there are.
pub fn page(
    tx: &impl Read,
    (from, limit): (usize, usize),
    newest_first: bool,
    keep: impl Fn(&ReportRow) -> bool,
) -> Result<(Vec<(Pos, ReportRow)>, usize)> {
    let (mut page, mut total) = (Vec::new(), 0);
    let visit = |id: Pos, row: ReportRow| {
        if keep(&row) {
            if total >= from && page.len() < limit {
                page.push((id, row));
            }
            total += 1;
        }
        Ok(Flow::Next)
    };
    match newest_first {
        true => tables::REPORTS.scan_back::<Pos>(tx, .., visit)?,
        false => tables::REPORTS.scan::<Pos>(tx, .., visit)?,
    }
    Ok((page, total))
}

/// One report. 404 if there is none of this number.
pub fn one(tx: &impl Read, id: Pos) -> Result<ReportRow> {
    tables::REPORTS.get(tx, id)?.ok_or_else(|| Error::not_found("there is no such report"))
}

/// Takes a report away: it was dealt with.
pub fn remove(tx: &WriteTx, id: Pos) -> Result<()> {
    one(tx, id)?;
    tables::REPORTS.remove(tx, id).map(drop)
}
