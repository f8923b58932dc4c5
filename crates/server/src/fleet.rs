//! The keepers that share the keyring: who they are, whose each bucket is, and the orders to drain and to undrain.

use axum::response::Response;
use serde::Serialize;
use storekeeper_keeper::{LeaseView, NodeView};
use utoipa::ToSchema;

use crate::call::Call;
use crate::caller::Scope;
use crate::keys::json;
use crate::problem::Problem;

/// A keeper that shares the keyring.
#[derive(Serialize, ToSchema)]
#[schema(as = Node)]
pub(crate) struct NodeAnswer {
    /// Made anew at each start.
    id: String,
    /// What people call it.
    name: String,
    /// How many of the 4096 leases are its own.
    leases: usize,
    /// It gives its leases back and wants no others.
    draining: bool,
    /// How its clock stands to the Store's: `agrees`, `skewed` or `unknown`.
    clock: &'static str,
    /// Whether it is the one that answers.
    answering: bool,
}

/// Every keeper that shares the keyring.
#[derive(Serialize, ToSchema)]
#[schema(as = Nodes)]
pub(crate) struct NodesAnswer {
    /// In the order of their ids.
    nodes: Vec<NodeAnswer>,
    /// How many leases are nobody's, or those of a keeper that is not known any more.
    free: usize,
}

/// A bucket's lease.
#[derive(Serialize, ToSchema)]
#[schema(as = Lease)]
pub(crate) struct LeaseAnswer {
    /// 0 to 4095.
    bucket: u16,
    /// The id of the node whose it is; null when it is nobody's.
    node: Option<String>,
    /// Rises with each change.
    term: u64,
}

/// Every lease, and how many each keeper has.
#[derive(Serialize, ToSchema)]
#[schema(as = Leases)]
pub(crate) struct LeasesAnswer {
    /// In the order of their ids.
    nodes: Vec<NodeAnswer>,
    /// How many leases are nobody's, or those of a keeper that is not known any more.
    free: usize,
    /// One for each bucket, in order.
    leases: Vec<LeaseAnswer>,
}

impl From<NodeView> for NodeAnswer {
    fn from(node: NodeView) -> Self {
        let NodeView { id, name, leases, draining, clock, answering } = node;
        Self { id: id.to_string(), name, leases, draining, clock: clock.as_str(), answering }
    }
}

impl From<LeaseView> for LeaseAnswer {
    fn from(lease: LeaseView) -> Self {
        Self { bucket: lease.bucket.number(), node: lease.node.map(|id| id.to_string()), term: lease.term }
    }
}

/// List the keepers that share the keyring.
///
/// A keeper that has a keyring for itself is listed alone, with every lease.
#[utoipa::path(
    get,
    path = "/v1/admin/nodes",
    operation_id = "list_nodes",
    tag = "admin",
    responses((status = 200, description = "every node", body = NodesAnswer))
)]
pub(crate) async fn nodes(call: Call) -> Result<Response, Problem> {
    let (nodes, leases) = fleet(&call).await?;
    Ok(json(&NodesAnswer { free: free(&nodes, &leases), nodes: nodes.into_iter().map(NodeAnswer::from).collect() }))
}

/// List the leases.
#[utoipa::path(
    get,
    path = "/v1/admin/leases",
    operation_id = "list_leases",
    tag = "admin",
    responses((status = 200, description = "every lease", body = LeasesAnswer))
)]
pub(crate) async fn leases(call: Call) -> Result<Response, Problem> {
    let (nodes, leases) = fleet(&call).await?;
    Ok(json(&LeasesAnswer {
        free: free(&nodes, &leases),
        nodes: nodes.into_iter().map(NodeAnswer::from).collect(),
        leases: leases.into_iter().map(LeaseAnswer::from).collect(),
    }))
}

/// Tell a keeper to give its leases back.
///
/// Any keeper may be asked, and any named, by id or by name. It keeps answering reads and enrollments, and stays without
/// leases until it is undrained or restarted.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}/drain",
    operation_id = "drain_node",
    tag = "admin",
    responses((status = 200, description = "it has been told", body = NodeAnswer))
)]
pub(crate) async fn drain(call: Call) -> Result<Response, Problem> {
    call.caller.demand_for_all(Scope::Admin)?;
    let node = call.segment("{node}")?;
    call.query(&[])?;
    let node = call.api.keeper().drain_node(&String::from_utf8_lossy(&node)).await?;
    Ok(json(&NodeAnswer::from(node)))
}

/// Let a drained keeper take leases again.
///
/// Any keeper may be asked, and any named, by id or by name. It takes its share of the leases within seconds. A keeper that is stopping keeps
/// draining.
#[utoipa::path(
    post,
    path = "/v1/admin/nodes/{node}/undrain",
    operation_id = "undrain_node",
    tag = "admin",
    responses((status = 200, description = "the node, which is not draining any more", body = NodeAnswer))
)]
pub(crate) async fn undrain(call: Call) -> Result<Response, Problem> {
    call.caller.demand_for_all(Scope::Admin)?;
    let node = call.segment("{node}")?;
    call.query(&[])?;
    let node = call.api.keeper().undrain_node(&String::from_utf8_lossy(&node)).await?;
    Ok(json(&NodeAnswer::from(node)))
}

async fn fleet(call: &Call) -> Result<(Vec<NodeView>, Vec<LeaseView>), Problem> {
    call.caller.demand_for_all(Scope::Admin)?;
    call.query(&[])?;
    Ok(call.api.keeper().fleet().await?)
}

fn free(nodes: &[NodeView], leases: &[LeaseView]) -> usize {
    leases.len() - nodes.iter().map(|node| node.leases).sum::<usize>().min(leases.len())
}
