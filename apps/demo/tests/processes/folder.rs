//! A temporary folder, and a copy of the program in it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A folder that is removed at the end. It may have a copy of the program, which a test replaces.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Folder {
        Folder(tempfile::tempdir().expect("a temporary folder"))
    }

    pub(crate) fn with_program() -> Folder {
        let folder = Folder::new();
        folder.replace(|new| _ = fs::copy(env!("CARGO_BIN_EXE_demo"), new).expect("a copy"));
        folder
    }

    pub(crate) fn program(&self) -> PathBuf {
        self.path("program")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Puts another program in the place of the copy, as a deployment does: in one step.
    fn replace(&self, write: impl FnOnce(&Path)) {
        let new = self.path("new");
        write(&new);
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).expect("it is our file");
        fs::rename(new, self.program()).expect("it is our folder");
    }

    pub(crate) fn replace_with_script(&self, script: &str) {
        self.replace(|new| fs::write(new, format!("#!/bin/sh\n{script}\n")).expect("it is our folder"));
    }

    /// Puts a program in the place of the copy whose responses have no `Date`.
    pub(crate) fn replace_with_dateless(&self) {
        let demo = env!("CARGO_BIN_EXE_demo");
        self.replace_with_script(&format!("GEARSHIFT_NO_DATE_HEADER=1 exec '{demo}' \"$@\""));
    }
}
