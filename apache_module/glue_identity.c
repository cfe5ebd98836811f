/* SPDX-License-Identifier: Apache-2.0 */
/* As whom the workers of a process group run. Name services can block and must not be loaded into
 * the supervisor, so all names are looked up here, in httpd's parent.
 * Up: glue_group.c. Down: glue_options.h, which has the words as they were written. */
#include "glue_identity.h"

#include <apr_sha1.h>
#include <apr_user.h>
#include <grp.h>
#include <mpm_common.h>
#include <unistd.h>
#include <unixd.h>

#define IS_ROOTS_GROUP "is root's group, and applications do not run in it"

/* What was written: "name" or "#number". */

static int is_numeric(apr_int64_t *number, const char *word) {
    char *end;

    if (word[0] != '#' || word[1] < '0' || word[1] > '9')
        return 0;
    *number = apr_strtoi64(word + 1, &end, 10);
    return *end == '\0' && *number >= 0 && *number < UINT32_MAX;
}

static const char *find_user(apr_int64_t *uid, const char *word, apr_pool_t *pool) {
    apr_uid_t found;
    apr_gid_t unused;

    if (is_numeric(uid, word))
        return NULL;
    if (word[0] == '#' || apr_uid_get(&found, &unused, word, pool) != APR_SUCCESS)
        return "is no user of this machine";
    *uid = found;
    return NULL;
}

static const char *find_group(apr_int64_t *gid, const char *word, apr_pool_t *pool) {
    apr_gid_t found;

    if (is_numeric(gid, word))
        return NULL;
    if (word[0] == '#' || apr_gid_get(&found, word, pool) != APR_SUCCESS)
        return "is no group of this machine";
    *gid = found;
    return NULL;
}

/* The groups of a comma list: exactly these, the primary one apart. An empty list is none. */
static const char *find_listed(glue_definition_t *definition, const char *subject,
                               apr_pool_t *pool) {
    const char *rest = definition->supplementary_groups, *problem = NULL, *word = rest;

    subject = apr_pstrcat(pool, subject, " supplementary-groups=", NULL);
    definition->listed = apr_array_make(pool, 8, sizeof(gid_t));
    while (problem == NULL && *rest != '\0') {
        apr_size_t length = strcspn(rest, ",");
        apr_int64_t gid = -1;

        word = apr_pstrmemdup(pool, rest, length);
        problem = find_group(&gid, word, pool);
        if (problem == NULL && gid == 0)
            problem = IS_ROOTS_GROUP;
        APR_ARRAY_PUSH(definition->listed, gid_t) = (gid_t)gid;
        rest += length;
        if (*rest == ',' && *++rest == '\0' && problem == NULL)
            problem = find_group(&gid, word = "", pool);
    }
    if (problem != NULL)
        return glue_value_complaint(subject, word, problem, pool);
    if (definition->listed->nelts < NGROUPS_MAX) /* less the primary one */
        return NULL;
    return apr_psprintf(pool,
                        "%s: %d groups and the primary one are more than the %d that this "
                        "system allows a process",
                        subject, definition->listed->nelts, NGROUPS_MAX);
}

/* An option that names a user or a group. */
struct name {
    const char *option, *word; /* NULL: not written */
    apr_int64_t *number;
    const char *(*look_up)(apr_int64_t *, const char *, apr_pool_t *);
    const char *if_root; /* what is wrong with number 0; NULL: nothing */
};

static const char *check_name(const struct name *name, const char *subject, apr_pool_t *pool) {
    const char *problem = name->look_up(name->number, name->word, pool);

    if (problem == NULL && *name->number == 0)
        problem = name->if_root;
    return problem == NULL
               ? NULL
               : glue_value_complaint(apr_pstrcat(pool, subject, " ", name->option, "=", NULL),
                                      name->word, problem, pool);
}

const char *glue_identity_check(glue_definition_t *definition, const char *subject,
                                apr_pool_t *pool) {
    apr_int64_t uid = -1, gid = -1;
    glue_group_t *group = &definition->group;
    const struct name names[] = {
        {"user", definition->user, &uid, find_user, "is root, and applications do not run as root"},
        {"group", definition->group_name, &gid, find_group, IS_ROOTS_GROUP},
        {"socket-user", definition->socket_user, &group->socket_uid, find_user, NULL},
        {"script-user", definition->script_user, &group->script_uid, find_user, NULL},
        {"script-group", definition->script_group, &group->script_gid, find_group, NULL},
    };

    for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
        const char *complaint = names[i].word != NULL ? check_name(&names[i], subject, pool) : NULL;

        if (complaint != NULL)
            return complaint;
    }
    if (definition->script_user != NULL && definition->script_group != NULL)
        return glue_value_complaint(subject, "script-group", "excludes script-user", pool);
    return definition->supplementary_groups != NULL ? find_listed(definition, subject, pool) : NULL;
}

/* Once the whole configuration is known. */

/* The groups of a user as initgroups would have them, the primary one first. */
static apr_array_header_t *groups_of(const char *user, gid_t gid, apr_pool_t *pool) {
    gid_t list[NGROUPS_MAX];
    int count = NGROUPS_MAX;
    apr_array_header_t *groups = apr_array_make(pool, 8, sizeof(gid_t));

    if (user == NULL || getgrouplist(user, gid, list, &count) < 0) {
        APR_ARRAY_PUSH(groups, gid_t) = gid;
        return groups;
    }
    for (int i = 0; i < count; i++)
        APR_ARRAY_PUSH(groups, gid_t) = list[i];
    return groups;
}

/* The primary group, and those that were listed. */
static apr_array_header_t *exactly(gid_t gid, const apr_array_header_t *listed, apr_pool_t *pool) {
    apr_array_header_t *groups = apr_array_make(pool, 1 + listed->nelts, sizeof(gid_t));

    APR_ARRAY_PUSH(groups, gid_t) = gid;
    apr_array_cat(groups, listed);
    return groups;
}

static void resolve(glue_definition_t *definition, apr_pool_t *pool) {
    glue_group_t *group = &definition->group;
    apr_int64_t uid = ap_unixd_config.user_id, gid = ap_unixd_config.group_id;
    char *name = NULL, *home = NULL;

    if (geteuid() != 0) {
        uid = geteuid();
        gid = getegid();
    } else {
        if (definition->user != NULL)
            find_user(&uid, definition->user, pool); /* was found when the line was read */
        if (definition->group_name != NULL)
            find_group(&gid, definition->group_name, pool);
    }
    group->uid = (uid_t)uid;
    group->gid = (gid_t)gid;
    if (apr_uid_name_get(&name, group->uid, pool) != APR_SUCCESS)
        name = NULL;
    if (name != NULL && apr_uid_homepath_get(&home, name, pool) == APR_SUCCESS)
        group->user_home = home;
    group->user = name;
    group->groups = definition->listed != NULL ? exactly(group->gid, definition->listed, pool)
                                               : groups_of(name, group->gid, pool);
}

static void digest_text(apr_sha1_ctx_t *context, const char *text) {
    apr_sha1_update_binary(context, (const unsigned char *)text, (unsigned)strlen(text) + 1);
}

/* docs/plan.md section 3. */
static void make_digest(glue_group_t *group, apr_pool_t *pool) {
    apr_sha1_ctx_t context;
    uid_t httpd = geteuid() == 0 ? ap_unixd_config.user_id : geteuid();

    apr_sha1_init(&context);
    digest_text(&context, group->name);
    digest_text(&context, apr_psprintf(pool, "%u", (unsigned)group->uid));
    digest_text(&context, apr_psprintf(pool, "%u", (unsigned)group->gid));
    for (int i = 0; i < group->groups->nelts; i++)
        digest_text(&context,
                    apr_psprintf(pool, "%u", (unsigned)APR_ARRAY_IDX(group->groups, i, gid_t)));
    digest_text(&context, group->chroot ? group->chroot : "");
    digest_text(&context, apr_psprintf(pool, "%u", (unsigned)httpd));
    apr_sha1_final(group->digest, &context);
}

void glue_identity_resolve(glue_definition_t *definition, apr_pool_t *pool) {
    resolve(definition, pool);
    make_digest(&definition->group, pool);
}

int glue_identity_has_several(const apr_array_header_t *groups) {
    for (int i = 1; i < groups->nelts; i++)
        if (APR_ARRAY_IDX(groups, i, glue_group_t *)->uid !=
            APR_ARRAY_IDX(groups, 0, glue_group_t *)->uid)
            return 1;
    return 0;
}
