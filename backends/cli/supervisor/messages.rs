//! The messages of the supervisor to systemd, which are those of all processes together.

use std::time::{Duration, Instant};

use sd_notify::NotifyState;

use crate::systemd;

/// See the [module](self).
pub(super) struct Messages {
    /// Whether `READY=1` was sent after the start.
    is_ready: bool,
    /// Whether systemd was told of a reload that has not ended.
    is_reloading: bool,
    is_stopping: bool,
    /// Half of the interval of the watchdog, and the time of its next message.
    watchdog: Option<(Duration, Instant)>,
}

impl Messages {
    pub(super) fn new() -> Messages {
        let watchdog = sd_notify::watchdog_enabled().map(|interval| (interval / 2, Instant::now()));
        Messages { is_ready: false, is_reloading: false, is_stopping: false, watchdog }
    }

    /// The processes are about to be replaced.
    pub(super) fn reloading(&mut self) {
        if self.is_ready && !self.is_reloading {
            self.is_reloading = true;
            systemd::tell_reloading();
        }
    }

    pub(super) fn stopping(&mut self) {
        self.is_stopping = true;
        systemd::send(&[NotifyState::Stopping]);
    }

    /// Sends the messages for which it is time. `is_complete` tells whether all processes serve, and `is_replacing`
    /// whether some are being replaced.
    pub(super) fn update(&mut self, is_complete: bool, is_replacing: bool) {
        if self.is_stopping {
            return;
        }
        if !self.is_ready && is_complete {
            self.is_ready = true;
            systemd::send(&[NotifyState::Ready]);
        }
        if self.is_reloading && !is_replacing {
            self.is_reloading = false;
            systemd::send(&[NotifyState::Ready]);
        }
        let now = Instant::now();
        if self.next().is_some_and(|next| next <= now)
            && let Some((half, next)) = &mut self.watchdog
        {
            *next = now + *half;
            systemd::send(&[NotifyState::Watchdog]);
        }
    }

    /// The time of the next message of the watchdog.
    pub(super) fn next(&self) -> Option<Instant> {
        let (_, next) = self.watchdog.filter(|_| self.is_ready && !self.is_stopping)?;
        Some(next)
    }
}
