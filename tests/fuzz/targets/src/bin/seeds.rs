//! Writes the seeds into `tests/fuzz/corpus`, where libFuzzer looks for them: `cargo run -p gearshift-fuzz-targets`.

use std::path::Path;
use std::{fs, io};

use gearshift_fuzz_targets::{TARGETS, seeds};

/// The maximal length. Longer inputs slow down every mutation. The test replays them.
const LONGEST: usize = 4096;

fn main() -> io::Result<()> {
    let seeds = seeds::all();
    for (target, _) in TARGETS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus").join(target);
        fs::create_dir_all(&folder)?;
        for seed in &seeds {
            for (number, script) in seeds::SCRIPTS.iter().enumerate() {
                let input = match target {
                    "chunked" => seed.body_input(script),
                    _ => Some(seed.input(script)),
                };
                if let Some(input) = input.filter(|input| input.len() <= LONGEST) {
                    fs::write(folder.join(format!("{}-{number}", seed.name)), input)?;
                }
            }
        }
    }
    Ok(())
}
