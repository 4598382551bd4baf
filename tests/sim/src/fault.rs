//! Faults that can be built into a simulation, to show that its rules find them.

/// A fault of a transport, a driver or an application. [`Simulation::fault`](crate::Simulation::fault) builds it in,
/// once or always, and the run has to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// A byte of a response is not sent.
    DropSentByte,
    /// A byte of a response is sent twice.
    RepeatSentByte,
    /// A byte of a request is not read.
    DropReadByte,
    /// A byte of a request is read twice.
    RepeatReadByte,
    /// A byte of a request is changed.
    ChangeReadByte,
    /// Bytes arrive without waking the reader that waits for them.
    LoseReadWake,
    /// There is room to write without waking the writer that waits for it.
    LoseWriteWake,
    /// Deadlines never pass.
    IgnoreDeadlines,
    /// The driver is polled endlessly at one instant.
    Spin,
    /// A connection is no longer polled when it is woken.
    ForgetConnection,
    /// A stop does not wake the tasks that wait for it.
    MissStop,
    /// A forced stop does not wake the tasks that wait for it.
    MissForce,
    /// The application treats a body that was cut as complete.
    CallCutBodyWhole,
    /// The application answers a request with the response to another one.
    SwapResponses,
    /// The application leaves a timer behind.
    KeepTimer,
    /// The application leaves a background task behind that never ends.
    KeepTask,
    /// A connection ends before a response is sent.
    CloseEarly,
    /// A request that had arrived is forgotten when a stop is asked for.
    ForgetAtStop,
    /// A task that waits for a request's body is not woken when the request is over.
    LoseGone,
    /// A blocking backend tells the driver that its threads do not block.
    DenyBlocking,
    /// A blocking backend gives the thread of a handler that waits to another connection.
    ParkHandling,
    /// A blocking backend keeps its thread with every connection that waits.
    HoldThread,
    /// A blocking backend does not report that a client has ended its side.
    HideEnd,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 23] = [
        Fault::DropSentByte,
        Fault::RepeatSentByte,
        Fault::DropReadByte,
        Fault::RepeatReadByte,
        Fault::ChangeReadByte,
        Fault::LoseReadWake,
        Fault::LoseWriteWake,
        Fault::IgnoreDeadlines,
        Fault::Spin,
        Fault::ForgetConnection,
        Fault::MissStop,
        Fault::MissForce,
        Fault::CallCutBodyWhole,
        Fault::SwapResponses,
        Fault::KeepTimer,
        Fault::KeepTask,
        Fault::CloseEarly,
        Fault::ForgetAtStop,
        Fault::LoseGone,
        Fault::DenyBlocking,
        Fault::ParkHandling,
        Fault::HoldThread,
        Fault::HideEnd,
    ];
}
