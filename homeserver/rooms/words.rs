//! From a text to the terms that it is found by: words in their English stem where they are English, and
//! pairs of letters where words run together, as in Chinese and Japanese, or carry endings, as in Korean. Pairs
//! find every part of a word there, which no dictionary does.

use std::{collections::BTreeMap, sync::OnceLock};

use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed, options::WordBreakInvariantOptions};
use rust_stemmers::{Algorithm, Stemmer};

/// Bytes of a text that are looked at.
const MAX_TEXT: usize = 16 * 1024;
/// Terms of a text at most.
const MAX_TERMS: usize = 500;
/// Bytes of a term at most: longer words are cut, as they are in what is searched for.
const MAX_TERM: usize = 64;

/// The terms of a text, and how often each occurs.
pub type Terms = BTreeMap<String, u32>;

/// What somebody searches for.
pub struct Query {
    /// Terms that a text has to have.
    pub terms: Terms,
    /// Runs of letters that it has to have as they are.
    runs: Vec<String>,
}

impl Query {
    /// Reads what somebody has typed.
    pub fn parse(text: &str) -> Self {
        let mut query = Self { terms: Terms::new(), runs: Vec::new() };
        for word in split(text) {
            match word {
                Word::Plain(word) => drop(query.terms.insert(stem(&word), 1)),
                Word::Run(run) => {
                    // Where a text has a whole run, its pairs are enough.
                    query.terms.extend(pairs(&run, true).into_iter().map(|term| (term, 1)));
                    query.runs.push(run);
                }
            }
        }
        query
    }

    /// How well a text fits, if it does: more for words that are much of it.
    pub fn fits(&self, text: &str) -> Option<f64> {
        let terms = terms(text);
        let mut rank = 0.0;
        for term in self.terms.keys() {
            let times = f64::from(*terms.get(term)?);
            rank += times / (times + 1.2);
        }
        let folded = fold(text);
        if !self.runs.iter().all(|run| folded.contains(run.as_str())) {
            return None;
        }
        let length = terms.values().map(|times| f64::from(*times)).sum::<f64>();
        Some(rank / (1.0 + length / 100.0).sqrt())
    }

    /// The words of a text because of which it was found, as they stand there.
    pub fn highlights(&self, text: &str) -> Vec<String> {
        let mut out: Vec<String> = Vec::new();
        for word in split(text) {
            if let Word::Plain(word) = word
                && self.terms.contains_key(&stem(&word))
            {
                out.push(word);
            }
        }
        let folded = fold(text);
        out.extend(self.runs.iter().filter(|run| folded.contains(run.as_str())).cloned());
        out
    }
}

/// The terms that a text is found by.
pub fn terms(text: &str) -> Terms {
    let mut out = Terms::new();
    for word in split(text) {
        let terms = match word {
            Word::Plain(word) => vec![stem(&word)],
            Word::Run(run) => pairs(&run, false),
        };
        for term in terms {
            if out.len() < MAX_TERMS || out.contains_key(&term) {
                *out.entry(term).or_default() += 1;
            }
        }
    }
    out
}

/// A piece of a text.
enum Word {
    /// A word that stands by itself.
    Plain(String),
    /// Letters of a script that writes words together.
    Run(String),
}

fn split(text: &str) -> Vec<Word> {
    static SEGMENTER: OnceLock<WordSegmenterBorrowed<'static>> = OnceLock::new();
    let segmenter = SEGMENTER.get_or_init(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));
    let text = fold(cut(text, MAX_TEXT));
    let (mut out, mut run, mut start) = (Vec::new(), String::new(), 0);
    for (end, kind) in segmenter.segment_str(&text).iter_with_word_type() {
        let piece = &text[start..end];
        start = end;
        let is_run = piece.chars().any(runs_together);
        if !is_run && !run.is_empty() {
            out.push(Word::Run(std::mem::take(&mut run)));
        }
        if is_run {
            run.extend(piece.chars().filter(|letter| letter.is_alphanumeric()));
        } else if kind.is_word_like() {
            out.push(Word::Plain(cut(piece, MAX_TERM).to_owned()));
        }
    }
    if !run.is_empty() {
        out.push(Word::Run(run));
    }
    out
}

/// A text with capitals made small, and wide forms made narrow.
fn fold(text: &str) -> String {
    let narrow = |letter: char| match letter {
        '\u{FF01}'..='\u{FF5E}' => char::from_u32(u32::from(letter) - 0xFEE0).unwrap_or(letter),
        '\u{2019}' => '\'',
        letter => letter,
    };
    text.chars().map(narrow).collect::<String>().to_lowercase()
}

/// Han, Kana and Hangul.
fn runs_together(letter: char) -> bool {
    matches!(letter,
        '\u{1100}'..='\u{11FF}' | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30FF}' | '\u{3130}'..='\u{318F}'
        | '\u{31F0}'..='\u{31FF}' | '\u{3400}'..='\u{4DBF}' | '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7AF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFF}')
}

/// The neighbouring letters of a run, two by two; and single ones, by which a search for one letter finds it.
fn pairs(run: &str, sought: bool) -> Vec<String> {
    let letters: Vec<char> = run.chars().collect();
    let mut out: Vec<String> = letters.windows(2).map(|pair| pair.iter().collect()).collect();
    if !sought || letters.len() == 1 {
        out.extend(letters.iter().map(char::to_string));
    }
    out
}

fn stem(word: &str) -> String {
    static STEMMER: OnceLock<Stemmer> = OnceLock::new();
    if !word.bytes().all(|byte| byte.is_ascii_alphabetic() || byte == b'\'') {
        return word.to_owned();
    }
    STEMMER.get_or_init(|| Stemmer::create(Algorithm::English)).stem(word).into_owned()
}

fn cut(text: &str, most: usize) -> &str {
    &text[..text.floor_char_boundary(most)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finds(query: &str, text: &str) -> bool {
        Query::parse(query).fits(text).is_some()
    }

    #[test]
    fn english_words_are_found_in_all_their_forms() {
        for text in ["She was running", "He runs.", "a RUN", "Running, again"] {
            assert!(finds("run", text), "{text}");
        }
        assert!(finds("meetings friday", "On Friday: meeting at noon"));
        assert!(!finds("meeting friday", "a meeting on Monday"));
        assert!(finds("café", "Das CAFÉ am Markt") && !finds("caf", "Das Café"));
        assert!(finds("2026", "in 2026, we said") && finds("don't", "I don’t know"));
    }

    #[test]
    fn chinese_japanese_and_korean_are_found_by_any_part() {
        assert!(finds("东京", "我昨天去了东京大学"));
        assert!(finds("大学", "我昨天去了东京大学") && !finds("京天", "我昨天去了东京大学"));
        assert!(finds("京", "我昨天去了东京大学"));
        assert!(finds("学校", "明日は学校に行きます") && finds("ラーメン", "ラーメンが食べたい"));
        assert!(finds("학교", "내일 학교에서 만나요") && finds("만나", "내일 학교에서 만나요"));
        assert!(!finds("학생", "내일 학교에서 만나요"));
        // The pairs are all there, and not the run.
        assert!(!finds("가나다", "가나 나다"));
        assert!(finds("rust 번역", "Rust 책의 번역본"));
    }

    #[test]
    fn terms_are_bounded_whatever_the_text_is() {
        let long = "x".repeat(100_000);
        assert!(terms(&long).keys().all(|term| term.len() <= MAX_TERM));
        assert!(finds(&long[..200], &long));
        let many: String = (0..5000).map(|n| format!("w{n} ")).collect();
        assert!(terms(&many).len() <= MAX_TERMS);
        assert!(terms("\u{0}\u{FFFF} … — 🎉").is_empty());
        let nothing = Query::parse("!!!");
        assert!(nothing.terms.is_empty());
    }

    #[test]
    fn highlights_are_the_words_as_they_were_written() {
        assert_eq!(Query::parse("run").highlights("Running and RUN"), ["running", "run"]);
        assert_eq!(Query::parse("学校").highlights("明日は学校に"), ["学校"]);
    }
}
