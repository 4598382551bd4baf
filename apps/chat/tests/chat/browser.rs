//! Chromium without a screen, driven by the DevTools protocol. All tests use one process, which starts with the first
//! of them.

use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};
use std::{env, thread};

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

/// Deadline of each wait of a test for the browser. Its start takes some seconds, and longer on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long to pause between two looks at a page.
const POLL: Duration = Duration::from_millis(50);

static BROWSER: Mutex<Option<Browser>> = Mutex::new(None);

/// The program, if it is on the PATH.
pub(crate) fn chromium() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .flat_map(|place| ["chromium", "chromium-browser", "google-chrome"].map(|name| place.join(name)))
        .find(|file| file.is_file())
}

/// The browser, for one test at a time.
pub(crate) struct Turn(MutexGuard<'static, Option<Browser>>);

impl Turn {
    /// Waits for the turn of a test, and starts the browser if it does not run.
    pub(crate) fn take() -> Turn {
        let mut browser = lock();
        if browser.is_none() {
            *browser = Some(Browser::start());
        }
        Turn(browser)
    }

    /// Opens a window.
    pub(crate) fn open(&mut self, url: &str) -> Window {
        let browser = self.browser();
        let target = json!({ "url": "about:blank", "newWindow": true });
        let target = text(&browser.call("Target.createTarget", target, None)["targetId"]);
        let attach = json!({ "targetId": target, "flatten": true });
        let session = text(&browser.call("Target.attachToTarget", attach, None)["sessionId"]);
        let window = Window { target, session };
        self.call(&window, "Runtime.enable", json!({}));
        self.call(&window, "Page.enable", json!({}));
        self.call(&window, "Page.navigate", json!({ "url": url }));
        window
    }

    /// Loads the page of the window again, with a script that runs before those of the page.
    pub(crate) fn reload_with(&mut self, window: &Window, script: &str) {
        self.call(window, "Page.addScriptToEvaluateOnNewDocument", json!({ "source": script }));
        self.call(window, "Page.reload", json!({}));
    }

    /// Evaluates an expression, which must not throw.
    pub(crate) fn evaluate(&mut self, window: &Window, expression: &str) -> Value {
        let expression = json!({ "expression": expression, "returnByValue": true });
        self.call(window, "Runtime.evaluate", expression)["result"]["value"].take()
    }

    /// Waits until the value of `expression` is `expected`. An expression that throws, because the page is not there
    /// yet, has no value.
    pub(crate) fn expect(&mut self, window: &Window, expression: &str, expected: &Value) {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let value = self.evaluate(window, expression);
            if value == *expected {
                return;
            }
            assert!(Instant::now() < deadline, "{expression} is {value}, and not {expected}");
            thread::sleep(POLL);
        }
    }

    /// Closes the windows. Returns the exceptions that no script has caught.
    pub(crate) fn close(mut self, windows: impl IntoIterator<Item = Window>) -> Vec<Value> {
        for window in windows {
            self.browser().call("Target.closeTarget", json!({ "targetId": window.target }), None);
        }
        std::mem::take(&mut self.browser().exceptions)
    }

    fn call(&mut self, window: &Window, method: &str, params: Value) -> Value {
        self.browser().call(method, params, Some(&window.session))
    }

    fn browser(&mut self) -> &mut Browser {
        self.0.as_mut().expect("it was started")
    }
}

/// A window of the browser, with one page.
pub(crate) struct Window {
    target: String,
    session: String,
}

/// Ends the browser, if it was started.
pub(crate) fn close() {
    drop(lock().take());
}

struct Browser {
    process: Child,
    devtools: WebSocket<TcpStream>,
    /// The identifier of the last call.
    calls: u64,
    exceptions: Vec<Value>,
    /// It is empty at the start: Chromium refuses a profile that another process uses.
    _profile: TempDir,
}

impl Browser {
    fn start() -> Browser {
        let profile = tempfile::tempdir().expect("a directory");
        let mut process = Command::new(chromium().expect("the test is ignored without it"))
            // Chromium has no sandbox for root.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            // A window behind another one is as quick as the one in front.
            .args(["--disable-background-timer-throttling", "--disable-renderer-backgrounding"])
            .args(["--disable-backgrounding-occluded-windows", "--remote-debugging-port=0"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("chromium starts");
        let log = BufReader::new(process.stderr.take().expect("the stream is piped"));
        let (found, address) = mpsc::channel();
        thread::spawn(move || {
            for line in log.lines().map_while(Result::ok) {
                if let Some(url) = line.strip_prefix("DevTools listening on ") {
                    let _ = found.send(url.to_owned());
                }
            }
        });
        let devtools = address.recv_timeout(TIMEOUT).ok().map(|url| connect(&url));
        let Some(devtools) = devtools else {
            let _ = process.kill();
            panic!("chromium did not listen within {TIMEOUT:?}: {:?}", process.wait());
        };
        Browser { process, devtools, calls: 0, exceptions: Vec::new(), _profile: profile }
    }

    /// Calls a method of the protocol, on a page if there is a session, and returns the result.
    fn call(&mut self, method: &str, params: Value, session: Option<&str>) -> Value {
        self.calls += 1;
        let mut call = json!({ "id": self.calls, "method": method, "params": params });
        if let Some(session) = session {
            call["sessionId"] = session.into();
        }
        self.devtools.send(Message::text(call.to_string())).expect("chromium reads");
        loop {
            let message = self.devtools.read().unwrap_or_else(|error| panic!("no answer to {call}: {error}"));
            let Message::Text(message) = message else { continue };
            let mut message: Value = serde_json::from_str(&message).expect("JSON");
            if message["method"] == "Runtime.exceptionThrown" {
                self.exceptions.push(message["params"].take());
            } else if message["id"] == self.calls {
                // A page that is being replaced has no context for scripts.
                let is_late = method == "Runtime.evaluate";
                assert!(message["error"].is_null() || is_late, "{call}: {}", message["error"]);
                return message["result"].take();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let close = Message::text(json!({ "id": 0, "method": "Browser.close" }).to_string());
        let deadline = Instant::now() + Duration::from_secs(20);
        if self.devtools.send(close).is_ok() {
            while Instant::now() < deadline && matches!(self.process.try_wait(), Ok(None)) {
                thread::sleep(POLL);
            }
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(url: &str) -> WebSocket<TcpStream> {
    let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).expect("a URL");
    let stream = TcpStream::connect(address).expect("chromium listens");
    stream.set_read_timeout(Some(TIMEOUT)).expect("a socket has a timeout");
    tungstenite::client::client(url, stream).expect("chromium answers").0
}

fn text(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn lock() -> MutexGuard<'static, Option<Browser>> {
    // A test that has failed leaves windows open, which harm no other test.
    BROWSER.lock().unwrap_or_else(PoisonError::into_inner)
}
