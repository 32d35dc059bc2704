#include "model/template_loop_int.h"

#include "model/template_eval_int.h"
#include "model/template_exec_int.h"

/* How it works. Items come one at a time, so that the `if` of a loop sees what earlier rounds did.
 * Only who asks for loop.last, nextitem or length makes the loop look ahead: `after` holds the item
 * that was taken early, and length takes all that are left. This is Jinja's order of events. */

cn_loop *cn_template_loop_open(cn_run *run, const cn_for *def, cn_value source)
{
    cn_loop *loop = cn_template_run_take(run, 1, sizeof *loop);
    cn_walk walk;
    if (!loop || !cn_template_value_walk(run, source, &walk)) return NULL;
    *loop = (cn_loop){.walk = walk, .def = def, .outer = run->scope, .index0 = -1, .length = -1,
                      .current = make_missing(), .before = make_missing(),
                      .after = make_missing(), .changed = make_missing()};
    if (def->test) {
        loop->test_scope = cn_template_run_take(run, 1, sizeof *loop->test_scope);
        if (!loop->test_scope) return NULL;
        *loop->test_scope = (cn_scope){.parent = run->scope};
    } else {
        loop->length = cn_template_value_length(source);
    }
    return loop;
}

/* Whether the loop's `if` lets *item pass; false also when the render has failed. What passes is
 * the target's value: an item that was unpacked to names is a tuple from here on. */
static bool passes(cn_run *run, cn_loop *loop, cn_value *item)
{
    cn_scope *scope = run->scope;
    cn_value test = make_bad();
    run->scope = loop->test_scope;
    loop->test_scope->count = 0;
    if (cn_template_exec_assign(run, loop->def->target, *item)) {
        test = cn_template_eval(run, loop->def->test);
    }
    const bool pass = !is_bad(test) && cn_template_value_truth(test);
    if (pass && loop->def->target->kind == CN_NODE_TUPLE) {
        *item = cn_template_eval(run, loop->def->target);
    }
    run->scope = scope;
    return pass && !run->code;
}

static bool next_passing(cn_run *run, cn_loop *loop, cn_value *item)
{
    while (cn_template_value_next(run, &loop->walk, item)) {
        if (!loop->test_scope || passes(run, loop, item)) return true;
        if (run->code) return false;
    }
    return false;
}

bool cn_template_loop_next(cn_run *run, cn_loop *loop, cn_value *item)
{
    if (!is_missing(loop->after)) {
        *item = loop->after;
        loop->after = make_missing();
    } else if (!next_passing(run, loop, item)) {
        return false;
    }
    loop->index0++;
    loop->before = loop->current;
    loop->current = *item;
    return true;
}

void cn_template_loop_skip(cn_run *run, cn_loop *loop, uint32_t place)
{
    cn_value item;
    cn_template_loop_next(run, loop, &item);
    loop->index0 = (int64_t)place - 1;
}

// False at the end and when the render has failed.
static bool look_ahead(cn_run *run, cn_loop *loop)
{
    if (!is_missing(loop->after)) return true;
    if (next_passing(run, loop, &loop->after)) return true;
    loop->after = make_missing();
    return false;
}

static bool find_length(cn_run *run, cn_loop *loop)
{
    uint32_t count = 0, capacity = 16;
    if (loop->length >= 0) return true;
    cn_value *rest = cn_template_run_take(run, capacity, sizeof *rest);
    cn_value item;
    if (!rest) return false;
    while (next_passing(run, loop, &item)) {
        if (count == capacity) {
            cn_value *larger = cn_template_run_take(run, capacity * 2u, sizeof *larger);
            if (!larger) return false;
            memcpy(larger, rest, count * sizeof *larger);
            rest = larger;
            capacity *= 2;
        }
        rest[count++] = item;
    }
    if (run->code) return false;
    loop->length = count + loop->index0 + 1 + !is_missing(loop->after);
    loop->walk = (cn_walk){.of = make_items(CN_LIST, rest, count)};
    loop->test_scope = NULL;     // the rest has passed already
    return true;
}

static cn_value from_length(cn_run *run, cn_loop *loop, int64_t less)
{
    return find_length(run, loop) ? make_int(loop->length - less) : make_bad();
}

cn_value cn_template_loop_attribute(cn_run *run, cn_loop *loop, cn_text name)
{
    if (text_is(name, "index")) return make_int(loop->index0 + 1);
    if (text_is(name, "index0")) return make_int(loop->index0);
    if (text_is(name, "first")) return make_bool(loop->index0 == 0);
    if (text_is(name, "last")) {
        const bool more = look_ahead(run, loop);
        return run->code ? make_bad() : make_bool(!more);
    }
    if (text_is(name, "length")) return from_length(run, loop, 0);
    if (text_is(name, "revindex")) return from_length(run, loop, loop->index0);
    if (text_is(name, "revindex0")) return from_length(run, loop, loop->index0 + 1);
    if (text_is(name, "previtem")) {
        return loop->index0 == 0 ? make_sentence("there is no previous item") : loop->before;
    }
    if (text_is(name, "nextitem")) {
        if (look_ahead(run, loop)) return loop->after;
        return run->code ? make_bad() : make_sentence("there is no next item");
    }
    if (text_is(name, "depth")) return make_int(1);
    if (text_is(name, "depth0")) return make_int(0);
    return make_missing();
}

int cn_template_loop_changed(cn_run *run, cn_loop *loop, cn_value values)
{
    const bool first = is_missing(loop->changed);
    const int equal = first ? 0 : cn_template_value_equal(run, loop->changed, values);
    if (equal < 0) return -1;
    if (!equal) loop->changed = values;
    return !equal;
}
