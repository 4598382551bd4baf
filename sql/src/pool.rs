//! Connections that are lent: never more than so many, each to one call or transaction at a time. One that is broken
//! when it comes back is thrown away, and whoever wants one next makes another.

use std::time::Duration;

use deadpool::managed::{Manager, Object, Pool, PoolError};
use gearshift_core::Runtime;

use crate::Error;

/// A pool of at most `size` connections, made when they are first wanted.
pub(crate) fn of<M: Manager>(manager: M, size: usize) -> Pool<M> {
    Pool::builder(manager)
        .max_size(size)
        .build()
        .expect("only timeouts would need a runtime of deadpool's own")
}

/// Waits for a connection in turn, holding neither a thread nor another connection meanwhile.
pub(crate) async fn take<M>(pool: &Pool<M>, runtime: &Runtime, patience: Duration) -> Result<Object<M>, Error>
where
    M: Manager<Error = Error>,
{
    match runtime.timeout(patience, pool.get()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(PoolError::Backend(error))) => Err(error),
        Ok(Err(error)) => Err(Error::Away(error.to_string().into())),
        Err(_) => Err(Error::Busy(format!("no connection was free within {patience:?}").into())),
    }
}
