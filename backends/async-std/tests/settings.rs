//! The environment sets the number of threads, and an error says how.

use gearshift_async_std::AsyncStd;
use gearshift_core::{Backend, Config};

#[test]
fn says_how_to_set_the_number_of_threads() {
    let mut config = Config::default();
    config.workers = Some(1000);
    let Err(error) = AsyncStd.check(&config) else { panic!("there are not so many threads") };
    assert!(error.to_string().contains("ASYNC_STD_THREAD_COUNT=1000"), "{error}");
}
