// Writes numbers and times for the reader of the page: in the zone, by the marks and by the forms that the page names.
"use strict";
window.reader = (() => {
    const PARTS = {year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"};
    let known;
    let inZone;

    // The page names them below where it names its scripts.
    const forms = () => known ??= document.querySelector("[data-zone]").dataset;

    // {Y, m, d, H, M, S}, each with its zeros.
    function clockAt(at) {
        inZone ??= new Intl.DateTimeFormat("sv", {...PARTS, timeZone: forms().zone});
        const [Y, m, d, H, M, S] = inZone.format(at).split(/\D/);
        return {Y, m, d, H, M, S, I: String(H % 12 || 12).padStart(2, "0"), p: H < 12 ? "AM" : "PM"};
    }

    // As strftime does.
    function fill(form, at) {
        const parts = clockAt(at);
        return form.replace(/%(\w)/g, (_, letter) => parts[letter]);
    }

    const date = at => fill(forms().date, at);
    const clock = at => fill(forms().clock, at);
    const minute = at => fill(forms().clock.replace(":%S", ""), at);

    return {
        zone: () => forms().zone,
        // Times are numbers of milliseconds, or Dates.
        date, clock, minute,
        year: at => fill("%Y", at),
        dayOfYear: at => fill(forms().date.replace(/[^%]%Y|%Y[^%]/, ""), at),
        moment: at => `${date(at)} ${clock(at)}`,
        // How far the clocks of the zone are ahead of UTC at a time, in milliseconds.
        ahead: at => Date.parse(fill("%Y-%m-%dT%H:%M:%SZ", at)) - Math.floor(at / 1000) * 1000,
        // A number as the page writes them; options: of Intl.NumberFormat.
        number(value, options = {maximumSignificantDigits: 9}) {
            const {decimalMark, groupMark} = forms();
            return value.toLocaleString("en", options).replace(/[.,]/g, mark => mark === "." ? decimalMark : groupMark);
        },
        // The other way round: of a text of the page with a number in it.
        read(text) {
            const {decimalMark} = forms();
            return Number([...text].map(one => one === decimalMark ? "." : /\d/.test(one) ? one : "").join(""));
        },
    };
})();
