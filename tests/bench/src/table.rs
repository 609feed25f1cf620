//! Reports as Markdown tables that are readable before they are rendered.

use crate::report::{Report, Row};

/// What a column says, and how two runs compare in it.
struct Figure {
    name: &'static str,
    of: fn(&Row) -> Option<f64>,
    write: fn(f64) -> String,
    more_is_better: bool,
}

const FIGURES: [Figure; 5] = [
    Figure { name: "per second", of: |row| row.rate, write: number, more_is_better: true },
    Figure { name: "p50 ms", of: |row| row.p50, write: number, more_is_better: false },
    Figure { name: "p99 ms", of: |row| row.p99, write: number, more_is_better: false },
    Figure { name: "CPU ms each", of: |row| row.cpu, write: number, more_is_better: false },
    Figure { name: "size", of: |row| row.bytes, write: size, more_is_better: false },
];

impl Figure {
    fn cell(&self, row: &Row) -> String {
        (self.of)(row).map_or("–".into(), self.write)
    }
}

/// The table of one run.
pub fn print(report: &Report) -> String {
    let mut heads = vec![""];
    heads.extend(FIGURES.map(|figure| figure.name));
    let mut rows = Vec::new();
    for row in &report.rows {
        let mut cells = vec![row.name.clone()];
        cells.extend(FIGURES.map(|figure| figure.cell(row)));
        rows.push(cells);
    }
    format!("{}\n\n{}", title(report), grid(&heads, &rows))
}

/// One row in words.
pub fn line(row: &Row) -> String {
    let known = FIGURES.iter().filter(|figure| (figure.of)(row).is_some());
    let words: Vec<String> = known.map(|figure| format!("{} {}", figure.name, figure.cell(row))).collect();
    format!("{}: {}", row.name, if words.is_empty() { "–".into() } else { words.join(", ") })
}

/// Two runs side by side, figure by figure: how many times better the first is.
pub fn compare(a: &Report, b: &Report) -> String {
    let only_b = b.rows.iter().filter(|row| find(a, &row.name).is_none());
    let mut rows = Vec::new();
    for row in a.rows.iter().chain(only_b) {
        let of = |report| find(report, &row.name).cloned().unwrap_or_default();
        rows.extend(compare_row(&of(a), &of(b), &row.name));
    }
    let heads = ["", "figure", "A", "B", "A is better"];
    format!("A: {}\nB: {}\n\n{}", title(a), title(b), grid(&heads, &rows))
}

fn find<'a>(report: &'a Report, name: &str) -> Option<&'a Row> {
    report.rows.iter().find(|row| row.name == name)
}

fn compare_row(a: &Row, b: &Row, name: &str) -> Vec<Vec<String>> {
    let mut lines = Vec::new();
    for figure in FIGURES {
        let ratio = match ((figure.of)(a), (figure.of)(b)) {
            (None, None) => continue,
            (Some(a), Some(b)) if a > 0.0 && b > 0.0 => {
                let ratio = if figure.more_is_better { a / b } else { b / a };
                format!("{} ×", number(ratio))
            }
            _ => "–".into(),
        };
        // The name stands on the first of its lines only.
        let name = if lines.is_empty() { name } else { "" };
        lines.push(vec![name.into(), figure.name.into(), figure.cell(a), figure.cell(b), ratio]);
    }
    lines
}

fn title(report: &Report) -> String {
    format!("{}, scale {}, on {}, {}", report.what, report.scale, report.machine, date(report.when))
}

/// Columns as wide as their widest cell, names to the left and figures to the right.
fn grid(heads: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([heads[column].chars().count(), 3]).max().unwrap_or(3)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let line = |cells: Vec<&str>| {
        let mut line = String::from("|");
        for (column, (cell, width)) in cells.iter().zip(&widths).enumerate() {
            let width = *width;
            line.push_str(&if column == 0 { format!(" {cell:<width$} |") } else { format!(" {cell:>width$} |") });
        }
        line + "\n"
    };
    let mut table = line(heads.to_vec());
    table.push('|');
    for (column, width) in widths.iter().enumerate() {
        let dashes = "-".repeat(width + 1);
        table.push_str(&if column == 0 { format!(":{dashes}|") } else { format!("{dashes}:|") });
    }
    table.push('\n');
    for row in rows {
        table.push_str(&line(row.iter().map(String::as_str).collect()));
    }
    table
}

/// Three figures, or all before the point.
fn number(figure: f64) -> String {
    let decimals = match figure.abs() {
        0.0 => 0,
        small if small < 0.9995 => 3,
        small if small < 9.995 => 2,
        small if small < 99.95 => 1,
        _ => 0,
    };
    let text = format!("{figure:.decimals$}");
    let (whole, rest) = text.split_once('.').map_or((text.as_str(), String::new()), |(a, b)| (a, format!(".{b}")));
    let mut grouped = String::new();
    for (place, digit) in whole.chars().enumerate() {
        if place > 0 && (whole.len() - place).is_multiple_of(3) && !grouped.ends_with('-') {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped + &rest
}

/// Bytes in the unit that a person would say.
fn size(bytes: f64) -> String {
    let kib = bytes / 1024.0;
    match kib {
        kib if kib.abs() < 1.0 => format!("{} B", number(bytes)),
        kib if kib.abs() < 1024.0 => format!("{} KiB", number(kib)),
        kib if kib.abs() < 1024.0 * 1024.0 => format!("{} MiB", number(kib / 1024.0)),
        kib => format!("{} GiB", number(kib / 1024.0 / 1024.0)),
    }
}

/// The day of a time in seconds since 1970, by counting years and months: no calendar crate for one line of output.
fn date(seconds: u64) -> String {
    let leap = |year: u64| year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400);
    let mut days = seconds / 86_400;
    let mut year = 1970;
    while days >= 365 + u64::from(leap(year)) {
        days -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [31, 28 + u64::from(leap(year)), 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 0;
    while days >= lengths[month] {
        days -= lengths[month];
        month += 1;
    }
    format!("{year}-{:02}-{:02}", month + 1, days + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_figures_and_are_grouped() {
        let written = [0.0, 0.0414, 0.9996, 3.1442, 33.333, 99.96, 1234.4, -1234567.0].map(number);
        assert_eq!(written, ["0", "0.041", "1.00", "3.14", "33.3", "100", "1,234", "-1,234,567"]);
        assert_eq!(number(-123.0), "-123");
    }

    #[test]
    fn sizes_have_units() {
        let written = [512.0, 2560.0, 30.0 * 1024.0 * 1024.0, 3.0 * 1073741824.0].map(size);
        assert_eq!(written, ["512 B", "2.50 KiB", "30.0 MiB", "3.00 GiB"]);
    }

    #[test]
    fn days_are_counted_over_leap_years() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(951_782_400), "2000-02-29");
        assert_eq!(date(1_798_761_599), "2026-12-31");
    }

    #[test]
    fn a_comparison_says_how_many_times_better_the_first_is() {
        let report = |rate, p50| {
            let mut report = Report::new("server", "machine", "small", 0);
            report.rows.push(Row { name: "sends".into(), rate, p50, ..Row::default() });
            report
        };
        let text = compare(&report(Some(3000.0), Some(2.0)), &report(Some(30.0), Some(8.0)));
        assert!(text.contains("| sends | per second | 3,000 |"), "{text}");
        assert!(text.contains("100 × |") && text.contains("4.00 × |"), "{text}");
        let text = compare(&report(Some(3000.0), None), &report(None, None));
        assert!(text.contains("3,000 |   – |           – |"), "{text}");
    }
}
