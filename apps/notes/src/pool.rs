//! Connections that are lent: never more than so many, each to one request at a time. One that is broken when it
//! comes back is thrown away, and the next request makes another.

use deadpool::managed::{Manager, Object, Pool, PoolError};
use gearshift::Runtime;

use crate::store::{PATIENCE, StoreError};

/// A pool of at most `size` connections, made when they are first wanted.
pub(crate) fn of<M: Manager>(manager: M, size: usize) -> Pool<M> {
    Pool::builder(manager)
        .max_size(size)
        .build()
        .expect("only timeouts would need a runtime of deadpool's own")
}

/// Waits for a connection in turn, holding neither a thread nor another connection meanwhile.
pub(crate) async fn take<M>(pool: &Pool<M>, runtime: &Runtime) -> Result<Object<M>, StoreError>
where
    M: Manager<Error = StoreError>,
{
    match runtime.timeout(PATIENCE, pool.get()).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(PoolError::Backend(error))) => Err(error),
        Ok(Err(error)) => Err(StoreError::Away(error.to_string().into())),
        Err(_) => Err(StoreError::Busy),
    }
}
