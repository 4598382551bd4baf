//! Tests that run on every backend, or on those with a property.

use gearshift::Backend;

/// A test on one backend. It panics if it fails.
pub type Test = fn(Backend);

/// The name of an area, and its tests by name.
pub type Area = (&'static str, &'static [(&'static str, Test)]);

/// The area and the name of a test that makes sense on some backends only, and the property of these backends. The name
/// [`ALL`] stands for all tests of the area.
pub type Only = (&'static str, &'static str, fn(Backend) -> bool);

/// All tests of an area, in an [`Only`].
pub const ALL: &str = "*";

/// A test of an area on a backend.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// The backend.
    pub backend: Backend,
    /// The name of the area.
    pub area: &'static str,
    /// The name of the test.
    pub name: &'static str,
    /// The test.
    pub test: Test,
}

impl Case {
    /// The name that the case is run by.
    pub fn full_name(&self) -> String {
        full_name(self.backend, self.area, self.name)
    }

    /// Runs the test.
    pub fn run(self) {
        (self.test)(self.backend);
    }
}

/// The name of the case in which a test runs on a backend.
pub fn full_name(backend: Backend, area: &str, test: &str) -> String {
    format!("{backend}::{area}::{test}")
}

/// Every test on every backend that is compiled in, without the cases that `only` excludes.
///
/// # Panics
/// If `only` names a test that does not exist.
pub fn cases(areas: &[Area], only: &[Only]) -> Vec<Case> {
    for (area, test, _) in only {
        let exists = |(name, tests): &Area| {
            name == area && (*test == ALL || tests.iter().any(|(name, _)| name == test))
        };
        assert!(areas.iter().any(exists), "there is no test {area}::{test}");
    }
    let applies = |backend, area: &str, test: &str| {
        only.iter()
            .filter(|(a, t, _)| *a == area && (*t == test || *t == ALL))
            .all(|(_, _, has_property)| has_property(backend))
    };
    let mut cases = Vec::new();
    for &backend in Backend::available() {
        for &(area, tests) in areas {
            let tests = tests.iter().filter(|(name, _)| applies(backend, area, name));
            cases.extend(tests.map(|&(name, test)| Case { backend, area, name, test }));
        }
    }
    cases
}
