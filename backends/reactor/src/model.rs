//! What the model checks of this crate and of the backends have in place of the network and of the time.

#[cfg(target_os = "linux")]
pub(crate) mod system_timer;
#[cfg(feature = "blocking")]
pub(crate) mod work;
