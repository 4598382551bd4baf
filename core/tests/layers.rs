//! The layers of the crate: a file imports only from its own layer and from the layers before it.

use std::path::Path;

/// The layers in their order; see the documentation of the crate.
const LAYERS: [&str; 5] = ["proto", "runtime", "conn", "server", "web"];

#[test]
fn a_layer_imports_only_from_the_layers_before_it() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut faults = Vec::new();
    for (rank, layer) in LAYERS.iter().enumerate() {
        let mut files = 0;
        let mut folders = vec![source.join(layer)];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).expect("a folder of the layer") {
                let path = entry.expect("a file of the folder").path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let text = std::fs::read_to_string(&path).expect("a source file");
                files += 1;
                for (line, number) in text.lines().zip(1..) {
                    let fault = fault(line, rank);
                    faults.extend(fault.map(|fault| format!("{}:{number}: {fault}: {line}", path.display())));
                }
            }
        }
        assert!(files > 1, "there are no files in {layer}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Returns the fault of a line in the layer with this rank, if its imports have one. Links in documentation are not
/// imports.
fn fault(line: &str, rank: usize) -> Option<String> {
    let code = line.trim_start();
    if code.starts_with("//") {
        return None;
    }
    code.split("crate::").skip(1).find_map(|path| {
        let first: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        match LAYERS.iter().position(|layer| *layer == first) {
            Some(other) if other <= rank => None,
            Some(_) => Some(format!("{} imports from {first}", LAYERS[rank])),
            None => Some(format!("the layer of crate::{first} is not named")),
        }
    })
}

#[test]
fn imports_that_go_up_or_name_no_layer_are_faults() {
    assert_eq!(fault("use crate::proto::request::Request;", 1), None);
    assert_eq!(fault("    use crate::conn::io::Io;", 2), None);
    assert_eq!(fault("/// [`Runtime`](crate::Runtime)", 0), None);
    assert!(fault("use crate::runtime::clock::Clock;", 0).is_some());
    assert!(fault("pub(crate) fn f() -> crate::server::listener::Listener {", 2).is_some());
    assert!(fault("use crate::{Request, Response};", 4).is_some());
}
