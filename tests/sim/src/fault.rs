//! Faults that can be built into a simulation, to prove that its rules find them.

/// Something that a transport, a driver or an application could do wrong. With
/// [`Simulation::fault`](crate::Simulation::fault) it is done, once or always, and the run has to fail.
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
    /// Bytes arrive, and who waits for them is not woken.
    LoseReadWake,
    /// There is room to write, and who waits for it is not woken.
    LoseWriteWake,
    /// Deadlines never pass.
    IgnoreDeadlines,
    /// The driver is polled without an end at one instant.
    Spin,
    /// A connection is not polled any more, whatever wakes it.
    ForgetConnection,
    /// A stop is not told to those that wait.
    MissStop,
    /// A forced stop is not told to those that wait.
    MissForce,
    /// The application calls a request's body whole when it was cut.
    CallCutBodyWhole,
    /// The application answers one request with another's response.
    SwapResponses,
    /// The application leaves a timer behind.
    KeepTimer,
    /// The application leaves a background task behind that never ends.
    KeepTask,
    /// A connection ends with a response unsent.
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
