//! Instants as the emulated services print them: HTTP dates, Entra's timestamps and those of .NET messages.

use storekeeper_model::Timestamp;

/// A civil date and time in UTC.
struct Civil {
    year: i64,
    month: usize,
    day: i64,
    weekday: usize,
    hour: i64,
    minute: i64,
    second: i64,
}

impl Civil {
    fn of(at: Timestamp) -> Self {
        let (days, seconds) = (at.seconds().div_euclid(86_400), at.seconds().rem_euclid(86_400));
        // Eras of 400 years that begin on the first of March: the leap day comes last and months need no table.
        let shifted = days + 719_468;
        let (era, day_of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month: usize::try_from(month).unwrap_or_default(),
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            weekday: usize::try_from((days + 4).rem_euclid(7)).unwrap_or_default(),
            hour: seconds / 3600,
            minute: seconds / 60 % 60,
            second: seconds % 60,
        }
    }
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`: the preferred form of RFC 7231 section 7.1.1.1.
pub(crate) fn http_date(at: Timestamp) -> String {
    const WEEKDAYS: [&str; 7] = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"];
    const MONTHS: [&str; 13] = ["", "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let Civil { year, month, day, weekday, hour, minute, second } = Civil::of(at);
    format!("{}, {day:02} {} {year:04} {hour:02}:{minute:02}:{second:02} GMT", WEEKDAYS[weekday], MONTHS[month])
}

/// `2016-01-09 02:02:12Z`: as in the bodies of Entra's token endpoint (store.md 2.7).
pub(crate) fn entra_timestamp(at: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(at);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z")
}

/// `01/09/2016 02:02:12`: as in the texts of Microsoft.IdentityModel.
pub(crate) fn dotnet_timestamp(at: Timestamp) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::of(at);
    format!("{month:02}/{day:02}/{year:04} {hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_in_three_dresses() {
        let check = |text: &str, http: &str, entra: &str, dotnet: &str| {
            let at: Timestamp = text.parse().unwrap();
            assert_eq!(
                (http_date(at).as_str(), entra_timestamp(at).as_str(), dotnet_timestamp(at).as_str()),
                (http, entra, dotnet)
            );
        };
        check("1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 GMT", "1994-11-06 08:49:37Z", "11/06/1994 08:49:37");
        check(
            "2000-02-29T23:59:59.999Z",
            "Tue, 29 Feb 2000 23:59:59 GMT",
            "2000-02-29 23:59:59Z",
            "02/29/2000 23:59:59",
        );
        check("2100-03-01T00:00:00Z", "Mon, 01 Mar 2100 00:00:00 GMT", "2100-03-01 00:00:00Z", "03/01/2100 00:00:00");
        check("1969-12-31T23:59:59Z", "Wed, 31 Dec 1969 23:59:59 GMT", "1969-12-31 23:59:59Z", "12/31/1969 23:59:59");
    }

    #[test]
    fn every_day_of_two_centuries_agrees_with_the_model() {
        for day in -36_500..73_000 {
            let at = Timestamp::from_seconds(day * 86_400 + 12_345);
            assert_eq!(entra_timestamp(at), at.to_string().replace('T', " "));
        }
    }
}
