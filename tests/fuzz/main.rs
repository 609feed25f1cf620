//! One program for each target, as cargo-fuzz wants them: the program's name says which it is.

#![no_main]

mod targets;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    targets::named(env!("CARGO_BIN_NAME"))(data);
});
