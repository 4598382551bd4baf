//! The exit status of a program.

use std::process::ExitCode;

/// The status with which a program exits; the table of the [module](super) says what each number means. The `main` of a
/// Rust program returns it as an [`ExitCode`]. A program that another runtime ends passes on its number.
///
/// ```
/// use std::process::ExitCode;
///
/// use gearshift::cli::Status;
///
/// assert_eq!(Status::SUCCESS.code(), 0);
/// let _: ExitCode = Status::SUCCESS.into();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status(pub(super) u8);

impl Status {
    /// The status 0.
    pub const SUCCESS: Status = Status(0);

    /// The number of the status.
    ///
    /// ```
    /// # use clap::Parser;
    /// # use gearshift::cli::{self, Settings};
    /// # #[derive(Parser)]
    /// # struct Program {
    /// #     #[command(flatten)]
    /// #     settings: Settings,
    /// # }
    /// // A line on standard error tells that there is no such flag.
    /// let status = cli::parse_from::<Program>(["program", "--color"]).err();
    /// assert_eq!(status.map(|status| status.code()), Some(2));
    /// ```
    pub fn code(self) -> u8 {
        self.0
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(status.code())
    }
}
