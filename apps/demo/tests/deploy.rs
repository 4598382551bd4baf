//! The files of `deploy/` that no proxy runs: the units of systemd, and the manifest for Kubernetes.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

fn deployed(path: &str) -> String {
    let path = format!("{}/../../deploy/{path}", env!("CARGO_MANIFEST_DIR"));
    fs::read_to_string(path).expect("the file is there")
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory for temporary files")
}

/// Writes a file, and returns its path.
fn write(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, text).expect("the directory is there");
    path
}

/// With `REQUIRE_SYSTEMD` in the environment the test fails where the program is not installed.
#[test]
fn the_units_of_systemd_are_valid() {
    let directory = directory();
    let service = deployed("systemd/app.service").replace("/usr/local/bin/app", env!("CARGO_BIN_EXE_demo"));
    let service = write(&directory, "app.service", &service);
    let socket = write(&directory, "app.socket", &deployed("systemd/app.socket"));
    let Ok(verified) = Command::new("systemd-analyze").arg("verify").args([service, socket]).output() else {
        assert!(std::env::var_os("REQUIRE_SYSTEMD").is_none(), "systemd-analyze is not installed");
        eprintln!("skipped: systemd-analyze is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&verified.stderr);
    assert!(verified.status.success() && said.is_empty(), "{said}");
}

/// The number behind the first occurrence of `key`.
fn number(text: &str, key: &str) -> u64 {
    let value = text.split_once(key).expect("the key is there").1.trim_start();
    let end = value.find(|c: char| !c.is_ascii_digit()).unwrap_or(value.len());
    value[..end].parse().expect("a number")
}

#[test]
fn a_pod_has_the_time_for_each_step_of_its_stop() {
    let manifest = deployed("kubernetes/app.yaml");
    let steps = ["sleep:\n                seconds:", "drain-delay = \"", "graceful-timeout = \""];
    let steps: u64 = steps.map(|key| number(&manifest, key)).iter().sum();
    assert!(number(&manifest, "terminationGracePeriodSeconds:") > steps);
    // The kubelet notices that /readyz has changed while the pod still serves.
    let probe = manifest.split_once("readinessProbe:").expect("the probe is there").1;
    let notices = number(probe, "periodSeconds:") * number(probe, "failureThreshold:");
    assert!(notices < number(&manifest, "drain-delay = \""));
}

#[test]
fn the_settings_of_a_pod_are_valid() {
    let manifest = deployed("kubernetes/app.yaml");
    let settings = manifest.split_once("app.toml: |\n").expect("the file is there").1;
    let settings: String = settings
        .lines()
        .take_while(|line| line.starts_with("    "))
        .map(|line| line.trim_start().to_owned() + "\n")
        .collect();
    assert!(settings.lines().count() > 5, "{settings}");
    let directory = directory();
    let file = write(&directory, "app.toml", &settings);
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    let checked = demo.arg("--check-config").arg("--config").arg(file).output().expect("the program starts");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
}
