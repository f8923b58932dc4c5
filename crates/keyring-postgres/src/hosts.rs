//! `Hosts`: the hosts that a URL names, each with a configuration of its own, and which of them to try first.

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use storekeeper_addresses::AddressOrder;
use tokio_postgres::config::{Config, Host, LoadBalanceHosts};

/// One host or several, of which the one that was good last comes first, and those that failed come last for some minutes.
#[derive(Debug)]
pub(crate) struct Hosts {
    each: Vec<Config>,
    began: Instant,
    order: Mutex<Order>,
}

/// What is known of the hosts.
#[derive(Debug, Default)]
struct Order {
    /// By their places in the list.
    places: AddressOrder<usize>,
    /// The addresses that their names stand for.
    addresses: AddressOrder<IpAddr>,
    /// Where the last connection was made.
    last: Option<(usize, Option<IpAddr>)>,
}

impl Hosts {
    /// Takes a list apart. One that the driver refuses, because ports or addresses are too few, is left to it.
    #[expect(clippy::disallowed_methods, reason = "how long a host is tried last goes by the operating system's time")]
    pub(crate) fn of(config: &Config) -> Self {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let count = hosts.len().max(addresses.len());
        let fits = |length: usize| length == 0 || length == count;
        let is_whole =
            count > 0 && fits(hosts.len()) && fits(addresses.len()) && (ports.len() == 1 || fits(ports.len()));
        let each = if is_whole { (0..count).map(|place| one(config, place)).collect() } else { vec![config.clone()] };
        Self { each, began: Instant::now(), order: Mutex::default() }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u32 {
        u32::try_from(self.each.len()).unwrap_or(u32::MAX)
    }

    /// All of them with their places in the list, in the order in which to try them.
    pub(crate) fn in_turn(&self) -> impl Iterator<Item = (usize, &Config)> {
        let (count, elapsed) = (self.each.len(), self.elapsed());
        let mut places: Vec<usize> = (0..count).collect();
        if self.each[0].get_load_balance_hosts() == LoadBalanceHosts::Random {
            places.rotate_left(any(count));
            self.order().places.sort_failed_last(&mut places, elapsed);
        } else {
            self.order().places.sort(&mut places, elapsed);
        }
        places.into_iter().map(|place| (place, &self.each[place]))
    }

    /// Puts the addresses that a name stands for into the order in which to try them.
    pub(crate) fn sort(&self, addresses: &mut [IpAddr]) {
        self.order().addresses.sort(addresses, self.elapsed());
    }

    /// A connection to this one was made, at the address in its configuration if it has several.
    pub(crate) fn was_good(&self, place: usize, config: &Config) {
        let (elapsed, address) = (self.elapsed(), config.get_hostaddrs().first().copied());
        let mut order = self.order();
        order.places.answered(&place, elapsed);
        if let Some(address) = address {
            order.addresses.answered(&address, elapsed);
        }
        order.last = Some((place, address));
    }

    /// No connection to this one could be made.
    pub(crate) fn failed(&self, place: usize) {
        self.order().places.failed(&place, self.elapsed());
    }

    /// No connection could be made at the address in this configuration, if it has one.
    pub(crate) fn address_failed(&self, config: &Config) {
        if let Some(address) = config.get_hostaddrs().first() {
            self.order().addresses.failed(address, self.elapsed());
        }
    }

    /// A connection that was good does not answer any more, and no other one was answered meanwhile.
    pub(crate) fn fell_silent(&self) {
        let elapsed = self.elapsed();
        let mut order = self.order();
        let Some((place, address)) = order.last.take() else { return };
        order.places.failed(&place, elapsed);
        if let Some(address) = address {
            order.addresses.failed(&address, elapsed);
        }
    }

    /// The one that was good is not any more: the list is gone through from its beginning.
    pub(crate) fn forget(&self) {
        *self.order() = Order::default();
    }

    fn order(&self) -> MutexGuard<'_, Order> {
        self.order.lock().expect("nothing panics while it holds the lock")
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }
}

fn any(count: usize) -> usize {
    use std::hash::{BuildHasher as _, Hasher as _};
    let drawn = std::hash::RandomState::new().build_hasher().finish();
    usize::try_from(drawn % count as u64).unwrap_or_default()
}

/// The same configuration for the host at this place alone.
fn one(config: &Config, place: usize) -> Config {
    let mut one = without_hosts(config);
    match config.get_hosts().get(place) {
        Some(Host::Tcp(name)) => {
            one.host(name);
        }
        #[cfg(unix)]
        Some(Host::Unix(path)) => {
            one.host_path(path);
        }
        None => {}
    }
    if let Some(address) = config.get_hostaddrs().get(place) {
        one.hostaddr(*address);
    }
    let ports = config.get_ports();
    if let Some(port) = ports.get(place).or(ports.first()) {
        one.port(*port);
    }
    one
}

/// All but the hosts. There is no taking them away from a configuration, so it is made anew.
fn without_hosts(config: &Config) -> Config {
    let mut other = Config::new();
    if let Some(user) = config.get_user() {
        other.user(user);
    }
    if let Some(password) = config.get_password() {
        other.password(password);
    }
    if let Some(name) = config.get_dbname() {
        other.dbname(name);
    }
    if let Some(options) = config.get_options() {
        other.options(options);
    }
    if let Some(name) = config.get_application_name() {
        other.application_name(name);
    }
    if let Some(timeout) = config.get_connect_timeout() {
        other.connect_timeout(*timeout);
    }
    if let Some(timeout) = config.get_tcp_user_timeout() {
        other.tcp_user_timeout(*timeout);
    }
    if let Some(interval) = config.get_keepalives_interval() {
        other.keepalives_interval(interval);
    }
    if let Some(retries) = config.get_keepalives_retries() {
        other.keepalives_retries(retries);
    }
    other
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    other
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(url: &str) -> Hosts {
        Hosts::of(&url.parse().unwrap())
    }

    #[test]
    fn a_host_of_its_own_has_every_option_of_the_list() {
        let options = "connect_timeout=1&tcp_user_timeout=2&keepalives=0&keepalives_idle=3&keepalives_interval=4\
                       &keepalives_retries=5&target_session_attrs=read-write&channel_binding=require\
                       &load_balance_hosts=random&application_name=a&options=-cb&sslmode=require&sslnegotiation=direct";
        for host in ["u:p@one:6/d", "u:p@%2Frun/d"] {
            let one = format!("postgres://{host}?{options}").parse::<Config>().unwrap();
            assert_eq!(Hosts::of(&one).each, std::slice::from_ref(&one));
            assert_eq!(Hosts::of(&Config::new()).each, [Config::new()]);
        }
        let addressed = "host=one hostaddr=127.0.0.1 port=6".parse::<Config>().unwrap();
        assert_eq!(Hosts::of(&addressed).each, [addressed]);
    }

    #[test]
    fn each_host_has_its_port() {
        let check = |url, each: [&str; 2]| {
            assert_eq!(hosts(url).each, each.map(|each| each.parse::<Config>().unwrap()), "{url}");
        };
        check("postgres://u@one:1,two:2/d", ["postgres://u@one:1/d", "postgres://u@two:2/d"]);
        check("host=one,two port=3", ["host=one port=3", "host=two port=3"]);
        check("hostaddr=127.0.0.1,127.0.0.2", ["hostaddr=127.0.0.1", "hostaddr=127.0.0.2"]);
        assert_eq!(hosts("host=one,two,three port=1,2").count(), 1, "the driver says what is wrong");
    }

    #[test]
    fn a_good_host_comes_first_and_a_failed_one_last() {
        let hosts = hosts("host=one,two,three");
        let order = || hosts.in_turn().map(|(place, _)| place).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1, 2]);
        let [first, second] = ["127.0.0.1", "127.0.0.2"].map(|address| address.parse::<IpAddr>().unwrap());
        hosts.failed(0);
        hosts.was_good(1, Config::new().hostaddr(second));
        assert_eq!(order(), [1, 2, 0]);
        let sorted = || {
            let mut addresses = [first, second];
            hosts.sort(&mut addresses);
            addresses
        };
        assert_eq!(sorted(), [second, first]);
        hosts.fell_silent();
        assert_eq!((order(), sorted()), (vec![2, 0, 1], [first, second]));
        hosts.address_failed(Config::new().hostaddr(first));
        assert_eq!(sorted(), [second, first], "the older failure first");
        hosts.forget();
        assert_eq!((order(), sorted()), (vec![0, 1, 2], [first, second]));
    }

    #[test]
    fn hosts_that_share_the_load_are_tried_in_any_order_but_for_those_that_failed() {
        let hosts = hosts("host=one,two,three load_balance_hosts=random");
        hosts.failed(0);
        hosts.was_good(1, &Config::new());
        let mut firsts = [0; 3];
        for _ in 0..200 {
            let order: Vec<usize> = hosts.in_turn().map(|(place, _)| place).collect();
            firsts[order[0]] += 1;
            assert_eq!(order[2], 0);
        }
        assert!(firsts[1] > 0 && firsts[2] > 0, "{firsts:?}");
    }
}
