#include "model/template_native_int.h"

#include "model/template_run_int.h"

const cn_native *cn_template_native_find(const cn_native *table, cn_text name)
{
    for (; table->name; table++) {
        if (table->name[0] == (name.len ? name.at[0] : 0) && text_is(name, table->name)) {
            return table;
        }
    }
    return NULL;
}

cn_value cn_template_native_named(const cn_args *args, const char *name)
{
    for (uint32_t i = 0; i < args->named_count; i++) {
        if (text_is(args->named[i].name, name)) return args->named[i].value;
    }
    return make_missing();
}

static bool bind_named(cn_run *run, const cn_native *native, const cn_named *named, cn_value *bound)
{
    for (uint32_t i = 0; i < native->params_max; i++) {
        if (!native->params[i] || !text_is(named->name, native->params[i])) continue;
        if (is_missing(bound[i])) {
            bound[i] = named->value;
            return true;
        }
        cn_template_run_invalid(run, "%s() got two values for '%s'", native->name,
                                native->params[i]);
        return false;
    }
    cn_template_run_invalid(run, "%s() got an unexpected keyword argument '%.*s'", native->name,
                            named->name.len < 60 ? (int)named->name.len : 60, named->name.at);
    return false;
}

cn_value cn_template_native_call(cn_run *run, const cn_native *native, const cn_args *args)
{
    cn_value bound[CN_PARAMS_MAX];
    if (!cn_template_run_charge(run, 1)) return make_bad();
    if (native->params_max == CN_VARIADIC) {
        if (args->positional_count >= native->params_min) {
            return native->call(run, args->positional, args);
        }
        return cn_template_run_invalid(run, "%s() takes at least %u arguments", native->name,
                                       native->params_min);
    }
    if (args->positional_count > native->params_max) {
        return cn_template_run_invalid(run, "%s() takes at most %u arguments (%u given)",
                                       native->name, native->params_max, args->positional_count);
    }
    for (uint32_t i = 0; i < CN_PARAMS_MAX; i++) {
        bound[i] = i < args->positional_count ? args->positional[i] : make_missing();
    }
    for (uint32_t i = 0; i < args->named_count; i++) {
        if (!bind_named(run, native, &args->named[i], bound)) return make_bad();
    }
    for (uint32_t i = 0; i < native->params_min; i++) {
        if (!is_missing(bound[i])) continue;
        return cn_template_run_invalid(run, "%s() misses its argument '%s'", native->name,
                                       native->params[i] ? native->params[i] : "value");
    }
    return native->call(run, bound, args);
}
