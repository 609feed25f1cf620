//! The fuzz targets on mutations of their seeds: the same ones in every run, so that what fails fails
//! again. Long runs are cargo-fuzz's; see tests/fuzz/.

#[path = "fuzz/targets.rs"]
mod targets;

use std::{fs, panic::catch_unwind};

use crate::common::repository;

/// Mutations of each target.
const RUNS: usize = 3000;
/// Bytes of an input at most.
const MAX: usize = 4096;
/// What parsers stumble over.
const WORDS: [&str; 40] = [
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\n",
    " ",
    "/",
    "%",
    "%2F",
    "%00",
    "%c3%a4",
    "%ff",
    "*",
    "**",
    "-",
    "+",
    "_",
    "=",
    "0",
    "-0",
    "1e9",
    "0.5",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551616",
    "null",
    "true",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "ä",
    "\u{10FFFF}",
    "@",
    "$",
    "\"\":",
    "{}",
];

/// Numbers that look random (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(number).expect("31 bits") % end.max(1)
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let (one, other) = (self.below(length + 1), self.below(length + 1));
        one.min(other)..one.max(other)
    }

    fn mutate(&mut self, data: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(data.len() + 1);
        let range = self.range(data.len());
        match self.below(9) {
            0 if at < data.len() => data[at] ^= 1 << self.below(8),
            1 if at < data.len() => data[at] = b' ' + u8::try_from(self.below(95)).expect("95 is less than 256"),
            2 => drop(data.drain(range)),
            3 => data.splice(at..at, data[range].to_vec()).for_each(drop),
            4 => data.splice(range, other[self.range(other.len())].iter().copied()).for_each(drop),
            5 => data.splice(at..at, WORDS[self.below(WORDS.len())].bytes().collect::<Vec<_>>()).for_each(drop),
            6 => data.splice(range, WORDS[self.below(WORDS.len())].bytes().collect::<Vec<_>>()).for_each(drop),
            7 => {
                let word = WORDS[self.below(WORDS.len())].as_bytes().repeat(1 + self.below(200));
                data.splice(at..at, word).for_each(drop);
            }
            _ if at < data.len() => data.swap(at, range.start.min(at)),
            _ => {}
        }
        data.truncate(MAX);
    }
}

/// The files of a target's corpus whose names begin so, in their order.
fn corpus(name: &str, kind: &str) -> Vec<Vec<u8>> {
    let folder = fs::read_dir(repository(&format!("tests/fuzz/corpus/{name}"))).expect("a corpus");
    let mut files: Vec<_> = folder.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind)));
    files.sort();
    files.into_iter().map(|path| fs::read(path).expect("readable")).collect()
}

fn run(name: &str) {
    let target = targets::named(name);
    let (mut seeds, bad) = (corpus(name, "seed-"), corpus(name, "bad-"));
    assert!(!seeds.is_empty(), "{name} has no seeds");
    let mut chance = Chance(0x9E37_79B9_7F4A_7C15);
    let attempt = |data: &[u8]| match catch_unwind(|| target(data)) {
        Ok(outcome) => outcome.is_some(),
        Err(_) => panic!("{name} fails for b\"{}\"", data.escape_ascii()),
    };
    // Seeds that are refused would lead nowhere.
    for (files, understood) in [(&seeds, true), (&bad, false)] {
        for seed in files {
            assert_eq!(attempt(seed), understood, "{name}: {}", seed.escape_ascii());
        }
    }
    seeds.extend(bad);
    for _ in 0..RUNS {
        let mut data = seeds[chance.below(seeds.len())].clone();
        for _ in 0..1 + chance.below(4) {
            let other = &seeds[chance.below(seeds.len())];
            chance.mutate(&mut data, other);
        }
        attempt(&data);
    }
}

/// One test for each target, and one that none is missing.
macro_rules! tests {
    ($($name:ident)+) => {
        $(#[test]
        fn $name() {
            run(stringify!($name));
        })+

        #[test]
        fn every_target_is_run_here_and_by_cargo_fuzz() {
            let all: Vec<&str> = targets::ALL.iter().map(|(name, _)| *name).collect();
            assert_eq!(all, [$(stringify!($name)),+]);
            let manifest = fs::read_to_string(repository("tests/fuzz/Cargo.toml")).expect("the manifest");
            let programs: Vec<&str> =
                manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"')).collect();
            assert_eq!(programs[1..], all);
        }
    };
}

tests! { paths bodies canonical filters wildcards tokens frames config headers events push_rules }
