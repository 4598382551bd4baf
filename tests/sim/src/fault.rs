//! Faults that can be built into a simulation. They prove that its rules find them.

/// A fault that a transport, a driver or an application could have. With
/// [`Simulation::fault`](crate::Simulation::fault) it is played, once or always, and the run has to fail.
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
    /// Bytes arrive, and the task that waits for them is not woken.
    LoseReadWake,
    /// There is room to write, and the task that waits for it is not woken.
    LoseWriteWake,
    /// Deadlines never pass.
    IgnoreDeadlines,
    /// The driver is polled without end at one instant.
    Spin,
    /// A connection is not polled any more, although it is woken.
    ForgetConnection,
    /// Connections are not told of a graceful stop.
    MissStop,
    /// Connections are not told of a forced stop.
    MissForce,
    /// The application says that a request's body was complete when it was cut.
    CallCutBodyWhole,
    /// The application answers one request with another's response.
    SwapResponses,
    /// The application sends a request's body back without its trailers.
    DropTrailers,
    /// The application leaves a timer behind.
    KeepTimer,
    /// The application leaves a background task behind that never ends.
    KeepTask,
    /// A connection ends with a response unsent.
    CloseEarly,
    /// A request that had arrived is forgotten when a graceful stop begins.
    ForgetAtStop,
    /// Connections are accepted although as many are open as may be.
    ForgetRoom,
    /// Connections whose first request has not come are closed when a graceful stop begins.
    CloseFreshAtStop,
    /// Connections in the queue of the listener are closed when a graceful stop begins.
    DropQueueAtStop,
    /// A deadline that has passed is reported although bytes have arrived, or there is room to write.
    JudgeFirst,
    /// Upgraded connections do not count among the open ones.
    ForgetUpgraded,
    /// An upgraded connection is not told of a graceful stop.
    DeafToStop,
    /// An upgraded connection stays open after a forced stop.
    KeepUpgraded,
    /// A byte of a body that is drained renews the time for the rest.
    RenewDrain,
    /// A client that has ended its side is not noticed while a response is streamed.
    OverlookEnd,
    /// A task that waits for a request's body is not woken when the request is over.
    LoseGone,
    /// A request's body wakes the task that polled it first, and not the one that polled it last.
    KeepFirstWaker,
    /// A task that reads a body to its end, or meets its failure, does not wake the driver.
    LoseDriverWake,
    /// A task that waits for a cancel token is not woken when the connection ends.
    LoseCancel,
    /// A blocking backend tells the driver that its threads do not block.
    DenyBlocking,
    /// A blocking backend gives the thread of a handler that waits to another connection.
    ParkHandling,
    /// A blocking backend gives the thread of a response that holds it to another connection.
    ParkHeld,
    /// The body of a response that has to hold its thread does not.
    ForgetHold,
    /// A blocking backend keeps its thread with every connection that waits.
    HoldThread,
    /// A blocking backend does not report that a client has ended its side.
    HideEnd,
}

impl Fault {
    /// All faults.
    pub const ALL: [Fault; 38] = [
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
        Fault::DropTrailers,
        Fault::KeepTimer,
        Fault::KeepTask,
        Fault::CloseEarly,
        Fault::ForgetAtStop,
        Fault::ForgetRoom,
        Fault::CloseFreshAtStop,
        Fault::DropQueueAtStop,
        Fault::JudgeFirst,
        Fault::ForgetUpgraded,
        Fault::DeafToStop,
        Fault::KeepUpgraded,
        Fault::RenewDrain,
        Fault::OverlookEnd,
        Fault::LoseGone,
        Fault::KeepFirstWaker,
        Fault::LoseDriverWake,
        Fault::LoseCancel,
        Fault::DenyBlocking,
        Fault::ParkHandling,
        Fault::ParkHeld,
        Fault::ForgetHold,
        Fault::HoldThread,
        Fault::HideEnd,
    ];
}
