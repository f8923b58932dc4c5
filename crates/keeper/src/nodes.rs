//! The fleet, as operators see it: nodes, leases, and the orders to drain and to undrain.

use storekeeper_keyring::{Buckets, ClockReport, Keyring, Lease, Node, NodeId};
use storekeeper_model::Bucket;

use crate::error::{NodeError, ReadError};
use crate::keeper::Keeper;

/// A keeper that shares the keyring.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeView {
    /// Its id, made anew at each start.
    pub id: NodeId,
    /// What people call it.
    pub name: String,
    /// How many leases are its own.
    pub leases: usize,
    /// It gives its leases back and wants no others.
    pub draining: bool,
    /// How its clock stands to the Store's, as it said with its last beat.
    pub clock: ClockReport,
    /// Whether it is the one that was asked.
    pub answering: bool,
}

/// A bucket and whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseView {
    /// Which.
    pub bucket: Bucket,
    /// `None`: anybody's.
    pub node: Option<NodeId>,
    /// Raised by each change; 0 where nobody shares the keyring.
    pub term: u64,
}

impl Keeper {
    /// Every node that shares the keyring, and every lease. Where nobody shares it, one node has all.
    ///
    /// # Errors
    /// [`ReadError::Keyring`].
    pub async fn fleet(&self) -> Result<(Vec<NodeView>, Vec<LeaseView>), ReadError> {
        let me = self.inner.config.node.id;
        let (nodes, leases) = match self.inner.tools.keyring.leases() {
            Some(shared) => (shared.nodes().await?, shared.all().await?),
            None => self.alone(),
        };
        let view = |node: Node| NodeView {
            leases: leases.iter().filter(|lease| lease.owner == Some(node.id)).count(),
            answering: node.id == me,
            id: node.id,
            name: node.name,
            draining: node.draining,
            clock: node.clock,
        };
        let nodes = nodes.into_iter().map(view).collect();
        let lease = |lease: &Lease| LeaseView { bucket: lease.bucket, node: lease.owner, term: lease.term };
        Ok((nodes, leases.iter().map(lease).collect()))
    }

    fn alone(&self) -> (Vec<Node>, Vec<Lease>) {
        let node = &self.inner.config.node;
        let lease = |bucket| Lease { bucket, owner: Some(node.id), term: 0 };
        let all = Buckets::all();
        let clock = self.inner.tools.clock_report();
        let node = Node { id: node.id, name: node.name.clone(), beat: 0, draining: false, clock };
        (vec![node], all.iter().map(lease).collect())
    }

    /// Tells a node, by its id or its name, to give its leases back and to want no others. Returns which it is.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn drain_node(&self, id_or_name: &str) -> Result<NodeView, NodeError> {
        let node = self.node(id_or_name).await?;
        let Some(shared) = self.inner.tools.keyring.leases() else { return Err(NodeError::Alone) };
        if !shared.drain_node(node.id).await? {
            return Err(NodeError::Unknown);
        }
        tracing::info!(node = %node.id, name = node.name, "node drained");
        Ok(NodeView { draining: true, ..node })
    }

    /// Lets a drained node, named by its id or its name, take leases again. It does so within a few beats. Returns which
    /// node it is.
    ///
    /// # Errors
    /// See [`NodeError`].
    pub async fn undrain_node(&self, id_or_name: &str) -> Result<NodeView, NodeError> {
        let node = self.node(id_or_name).await?;
        let Some(shared) = self.inner.tools.keyring.leases() else { return Err(NodeError::Alone) };
        if !shared.undrain_node(node.id).await? {
            return Err(NodeError::Unknown);
        }
        tracing::info!(node = %node.id, name = node.name, "node undrained");
        Ok(NodeView { draining: false, ..node })
    }

    /// The node with this id, or the only one with this name.
    async fn node(&self, id_or_name: &str) -> Result<NodeView, NodeError> {
        let (nodes, _) = self.fleet().await.map_err(NodeError::from)?;
        let by_id = |node: &&NodeView| Some(node.id) == id_or_name.parse().ok();
        let named: Vec<&NodeView> = nodes.iter().filter(|node| node.name == id_or_name).collect();
        match (nodes.iter().find(by_id), named.as_slice()) {
            (Some(node), _) => Ok(node.clone()),
            (None, [node]) => Ok(NodeView::clone(node)),
            (None, []) => Err(NodeError::Unknown),
            (None, _) => Err(NodeError::Ambiguous),
        }
    }
}
