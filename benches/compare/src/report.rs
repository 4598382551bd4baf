//! Writes the report: `index.html`, `results.json`, `results.csv` and `results.md`.

use std::fs;
use std::path::Path;

use crate::csv;
use crate::failure::Failure;
use crate::markdown;
use crate::page;
use crate::results::Results;

/// Writes the files to `directory`, which is created if missing. Files of an earlier report are replaced.
///
/// # Errors
/// [`Failure::Report`].
pub fn write(results: &Results, directory: &Path) -> Result<(), Failure> {
    let json = serde_json::to_vec_pretty(results).map_err(|error| refused(directory, &error))?;
    let csv = csv::render(results).map_err(|error| refused(directory, &error))?;
    let page = page::render(results).into_bytes();
    let markdown = markdown::render(results).into_bytes();
    prepare(directory)?;
    let files =
        [("index.html", page), ("results.json", json), ("results.csv", csv), ("results.md", markdown)];
    for (name, content) in files {
        let file = directory.join(name);
        fs::write(&file, content).map_err(|error| refused(&file, &error))?;
    }
    Ok(())
}

/// Creates the directory, so that a failure is known before anything is measured.
///
/// # Errors
/// [`Failure::Report`].
pub fn prepare(directory: &Path) -> Result<(), Failure> {
    fs::create_dir_all(directory).map_err(|error| refused(directory, &error))
}

fn refused(file: &Path, why: &dyn std::fmt::Display) -> Failure {
    Failure::Report { file: file.to_owned(), why: why.to_string() }
}
