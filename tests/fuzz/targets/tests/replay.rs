//! Replays inputs through the fuzz targets on a stable toolchain: all seeds, all seeds with other choices and a
//! changed byte, and all inputs that once found a fault.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use gearshift_fuzz_targets::{SCRIPT, TARGETS, Target, seeds};

/// Runs one input, and prints it if it fails.
fn replay(name: &str, target: Target, from: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input))) {
        let shown = String::from_utf8_lossy(&input[..input.len().min(500)]);
        eprintln!("{name} fails on {from}: {shown:?}");
        std::panic::resume_unwind(panic);
    }
}

/// Each seed with each script, as the target `name` reads it.
fn inputs(name: &str) -> Vec<(String, Vec<u8>)> {
    let mut inputs = Vec::new();
    for seed in seeds::all() {
        for script in &seeds::SCRIPTS {
            let input = if name == "chunked" { seed.body_input(script) } else { Some(seed.input(script)) };
            inputs.extend(input.map(|input| (seed.name.clone(), input)));
        }
    }
    inputs
}

#[test]
fn every_seed_passes() {
    assert!(seeds::all().len() > 200, "the cases are not found");
    for (name, target) in TARGETS {
        for (from, input) in inputs(name) {
            replay(name, target, &from, &input);
        }
    }
}

#[test]
fn every_seed_with_other_choices_and_a_changed_byte_passes() {
    // A generator that always gives the same numbers.
    let mut state: u32 = 1;
    let mut random = |below: usize| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % below
    };
    for (name, target) in TARGETS {
        // The target `connection` depends on its choices more than the others do.
        let rounds = if name == "connection" { 8 } else { 1 };
        for (from, input) in inputs(name).into_iter().filter(|(_, input)| input.len() <= 1024) {
            for _ in 0..rounds {
                let mut input = input.clone();
                for _ in 0..SCRIPT / 2 {
                    input[random(SCRIPT)] = random(256) as u8;
                }
                let at = random(2 * input.len());
                if let Some(byte) = input.get_mut(at) {
                    *byte = match random(3) {
                        0 => b"\r\n \t:;,\"\\%0\x7f"[random(12)],
                        _ => random(256) as u8,
                    };
                }
                replay(name, target, &format!("{from}, changed at {at}"), &input);
            }
        }
    }
}

#[test]
fn every_input_that_found_a_fault_passes() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../regressions");
    for entry in fs::read_dir(folder).expect("the folder of regressions") {
        let path = entry.expect("an entry of it").path();
        let input = fs::read(&path).expect("a file");
        // All targets read the same layout, so that an input that one target found runs through all of them.
        for (name, target) in TARGETS {
            replay(name, target, &path.display().to_string(), &input);
        }
    }
}
